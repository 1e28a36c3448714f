import contextlib
import dataclasses
import gzip
import json
import sys

import pytest

from bert_jax.data.corpus import beam, build
from bert_jax.storage import paths
from tests.data.test_corpus import content, make_config, random_text
from tests.errors import user_error


@pytest.fixture
def direct():
  pytest.importorskip("apache_beam")
  return beam.runner("DirectRunner")


@pytest.fixture
def config(tmp_path):
  return make_config(tmp_path)


def test_it_makes_the_bytes_of_the_local_run(config, tmp_path, direct):
  build.prepare(config, tmp_path / "local", 1)
  build.prepare(config, tmp_path / "beam", runner=direct)
  assert content(tmp_path / "beam") == content(tmp_path / "local")
  # With a given vocabulary, which is no stage of its own.
  config = dataclasses.replace(config, vocabulary=str(tmp_path / "local"))
  build.prepare(config, tmp_path / "local_given", 1)
  build.prepare(config, tmp_path / "beam_given", runner=direct)
  assert content(tmp_path / "beam_given") == content(tmp_path / "local_given")
  assert len(content(tmp_path / "beam_given")) == 3 * 2 + 2 * 2 + 3 + 1
  assert not list(tmp_path.glob("*.partial"))


def test_a_damaged_document_is_one_line(config, tmp_path, direct, caplog):
  lines = [json.dumps({"text": text}) for text in random_text(0).split("\n\n")]
  path = tmp_path / "text.jsonl"
  path.write_text("\n".join([*lines, "{damaged"]))
  config = dataclasses.replace(config, files=(str(path),))
  with user_error(r"text\.jsonl:121: expected"):
    build.prepare(config, tmp_path / "beam", runner=direct)
  assert not caplog.records
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    "text.jsonl",
    "text.txt",
  ]


def test_a_failed_pipeline_says_why(tmp_path, direct):
  with user_error(r"failed: ZeroDivisionError"):
    list(direct(divmod, [(7, 2), (9, 0)], tmp_path))


def test_several_workers(tmp_path, direct):
  run = beam.runner(
    "DirectRunner",
    "--direct_num_workers=2 --direct_running_mode=multi_processing",
  )
  assert list(run(divmod, [(7, 2), (9, 4)], tmp_path)) == [(3, 1), (2, 1)]


@pytest.mark.parametrize(
  ("runner", "options", "message"),
  [
    ("Direct", "", r"^--beam_runner: unknown 'Direct'; did you mean"),
    ("DirectRunner", "project=x", r"expected '--name=value ...', got 'project"),
    ("DirectRunner", "--projct=x", r"^--beam_options: unknown --projct; did"),
    ("DirectRunner", "--direct_num_workers=two", "invalid int value: 'two'$"),
    ("DirectRunner", "--project='", "No closing quotation"),
  ],
)
def test_mistakes_in_the_options(runner, options, message, direct):
  with user_error(message):
    beam.runner(runner, options)


def test_without_apache_beam(monkeypatch):
  monkeypatch.setitem(sys.modules, "apache_beam", None)
  with user_error(r"install 'bert_jax\[beam\]'"):
    beam.runner("DirectRunner")


def test_from_one_store_to_another(config, tmp_path, s3, direct):
  build.prepare(config, tmp_path / "local", 1)
  (tmp_path / "text.txt.gz").write_bytes(
    gzip.compress((tmp_path / "text.txt").read_bytes())
  )
  paths.upload_file(tmp_path / "text.txt.gz", f"{s3}/text.txt.gz")
  config = dataclasses.replace(config, files=(f"{s3}/*.gz",))
  build.prepare(config, f"{s3}/beam/corpus/", runner=direct)
  found = content(paths.local(f"{s3}/beam/corpus"))
  expected = content(tmp_path / "local")
  assert found.keys() == expected.keys()
  for name in expected.keys() - {"corpus.json"}:
    assert found[name] == expected[name]
  assert paths.list_names(f"{s3}/beam", None) == ["corpus"]
  # What is in the store already is known by its manifest.
  assert build.prepare(
    config, f"{s3}/beam/corpus", runner=direct
  ).already_prepared


def test_workers_may_be_in_another_folder(config, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  config = dataclasses.replace(config, files=("text.txt",))
  build.prepare(config, "local", 1)

  def elsewhere(function, tasks, _):
    (tmp_path / "elsewhere").mkdir(exist_ok=True)
    with contextlib.chdir(tmp_path / "elsewhere"):
      return [function(*task) for task in tasks]

  build.prepare(config, "other", runner=elsewhere)
  assert content(tmp_path / "other") == content(tmp_path / "local")

"""Commands with paths in an object store, and a run there that is killed."""

import json
import signal
import time

import bert_jax
from benchmarks import small_runs
from bert_jax import settings
from bert_jax.checkpointing import manifest
from bert_jax.data.corpus import build
from bert_jax.storage import paths
from bert_jax.training.recipe import Recipe
from bert_jax.training.run import train_recipe
from tests import pytrees
from tests.commands import mistake, output
from tests.e2e.test_train import launch

STEPS = 12


def test_a_run_in_a_store_that_is_killed_ends_as_one_here(s3, tmp_path, capsys):
  home = tmp_path
  config = small_runs.write(home, STEPS, checkpoint={"every": 2})
  paths.upload_file(home / "text.txt", f"{s3}/text/0.txt")
  source = {**config["corpus"], "files": f"{s3}/text/*.txt"}
  source = settings.from_dict(build.CorpusConfig, source)
  build.prepare(source, f"{s3}/corpus", processes=1)
  config["data"]["corpus"] = f"{s3}/corpus"
  train_recipe(Recipe.from_dict(config), home / "here")
  train = ["--config=config.py", f"--config.data.corpus={s3}/corpus"]
  train.append(f"--workdir={s3}/run")
  with launch("train", *train, cwd=home) as process:
    checkpoints = paths.as_path(s3) / "run" / "checkpoints"
    while not manifest.finished_steps(checkpoints):
      assert process.poll() is None, process.end()
      time.sleep(0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL
  assert max(manifest.finished_steps(checkpoints)) < STEPS
  train_recipe(Recipe.from_dict(config), f"{s3}/run")
  assert "resuming at step" in capsys.readouterr().err
  here, there = map(pytrees.load, (home / "here", f"{s3}/run"))
  pytrees.assert_equal(here, there)
  rows = paths.read_bytes(f"{s3}/run/metrics.jsonl").splitlines()
  rows = [row for row in map(json.loads, rows) if row["split"] == "train"]
  assert [row["step"] for row in rows] == list(range(1, STEPS + 1))

  paths.write_bytes(f"{s3}/in.txt", b"alpha [MASK] gamma\n")
  output(
    "predict",
    f"--model={s3}/run",
    f"--input={s3}/in.txt",
    f"--output={s3}/answers/out.jsonl",
    cwd=home,
  )
  assert sorted(paths.list_files(f"{s3}/answers")) == ["out.jsonl"]
  line = json.loads(paths.read_bytes(f"{s3}/answers/out.jsonl"))
  (expected,) = bert_jax.load(home / "here")("alpha [MASK] gamma")
  assert [c["token"] for c in line["answer"][0]] == [c.token for c in expected]


def test_a_bucket_that_is_not_there_gets_one_clear_line(s3, tmp_path):
  small_runs.write(tmp_path, STEPS)
  workdir = f"--workdir={s3}-that-is-not-there/run"
  line = mistake("train", "--config=config.py", workdir, cwd=tmp_path)
  assert "no such bucket" in line

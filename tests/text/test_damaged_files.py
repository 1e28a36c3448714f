import json

import pytest

from bert_jax.text import load
from tests.errors import user_error
from tests.text import small_files
from tests.text.test_loading import TOKENS, write, write_json


@pytest.mark.parametrize(
  ("data", "message"),
  [
    (b"", r"vocab.txt: the vocabulary is empty"),
    (b"[PAD]\n\xff\xfe\n", "vocab.txt, line 2: invalid UTF-8"),
    (b"\n\n", r"vocab.txt: the vocabulary is empty"),
    (b"a\nb\n", r"vocab.txt: no token among its 2 for cls \(\[CLS\] or <s>\)"),
  ],
)
def test_damaged_vocabulary_file(tmp_path, data, message):
  (tmp_path / "vocab.txt").write_bytes(data)
  with user_error(message):
    load(tmp_path)


IDS = {token: id for id, token in enumerate(TOKENS)}


def wordpiece(vocabulary):
  return {"model": {"type": "WordPiece", "vocab": vocabulary}}


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"model": 3}, "expected a model with a vocabulary"),
    ({"model": {"type": "WordPiece"}}, "expected a model with a vocabulary"),
    (wordpiece({"a": "x"}), "damaged vocab"),
    (wordpiece({"a": True}), "damaged vocab"),
    (wordpiece({**IDS, "\ud800": len(IDS)}), "not a valid token"),
    (wordpiece({"a": -1}), "expected different ids"),
    (wordpiece({"a": 10**9}), "expected different ids"),
    (wordpiece({"a": 0, "b": 0}), "expected different ids"),
    ({"added_tokens": [3]}, "expected a token, got 3"),
    ({"added_tokens": 3}, "damaged vocabulary"),
    ({"added_tokens": [{"content": "e"}]}, "damaged vocabulary"),
    ({"added_tokens": [{"content": "e", "id": 3}]}, "'e' has two ids"),
    ({"normalizer": {"normalizers": 3}}, "not a tokenizer"),
    ({"post_processor": None}, r"expected a post_processor that adds \[CLS\]"),
  ],
)
def test_damaged_json(tmp_path, changes, message):
  path = write_json(tmp_path / "tokenizer.json", **changes)
  with user_error(message) as error:
    load(tmp_path)
  assert str(path) in str(error.value)


@pytest.mark.parametrize(
  "text", ["", "{", "[]", "[" * 100_000, '{"a":' * 100_000, "\x00", "9" * 5000]
)
def test_what_is_no_json(tmp_path, text):
  (tmp_path / "tokenizer.json").write_text(text)
  with user_error(r"tokenizer\.json: "):
    load(tmp_path)


@pytest.mark.parametrize("depth", [100, 900, 20_000])
@pytest.mark.parametrize("family", ["wordpiece", "modernbert"])
def test_deeply_nested_normalizer(tmp_path, family, depth):
  if family == "wordpiece":
    path = write_json(tmp_path / "tokenizer.json", normalizer=0)
  else:
    path = small_files.modernbert(tmp_path) / "tokenizer.json"
    small_files.change(path, normalizer=0)
  step = '{"type": "Sequence", "normalizers": ['
  nested = f'"normalizer": {step * depth}{"]}" * depth}'
  path.write_text(path.read_text().replace('"normalizer": 0', nested))
  with user_error(r"tokenizer\.json: "):
    load(tmp_path)


def test_a_file_too_large_for_a_tokenizer(tmp_path):
  with (tmp_path / "vocab.txt").open("wb") as file:
    file.truncate(10**10)
  with user_error(r"vocab\.txt: larger than 100 MB"):
    load(tmp_path)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"post_processor": None}, r"that adds \[CLS\] before .* and \[SEP\] afte"),
    ({"pre_tokenizer": {"type": "Unheard"}}, "not a tokenizer"),
    ({"model": {"type": "BPE", "vocab": {}, "merges": []}}, "cannot have the"),
    ({"added_tokens": []}, "post_processor|is not|expected a token"),
  ],
)
def test_pipelines_that_do_not_work(tmp_path, change, message):
  path = small_files.modernbert(tmp_path) / "tokenizer.json"
  small_files.change(path, **change)
  with user_error(message) as error:
    load(tmp_path)
  assert str(tmp_path) in str(error.value)


def test_unigram_without_its_unknown_piece(tmp_path):
  load(small_files.albert(tmp_path)).save(tmp_path)
  path = tmp_path / "tokenizer.json"
  content = json.loads(path.read_text())
  content["model"]["unk_id"] = None
  path.write_text(json.dumps(content))
  with user_error("unk_id: expected 1, the id of <unk>"):
    load(tmp_path)


def test_damaged_config(tmp_path):
  write(tmp_path / "vocab.txt")
  small_files.settings(tmp_path, do_lower_case="yes")
  with user_error("do_lower_case: expected a bool"):
    load(tmp_path)

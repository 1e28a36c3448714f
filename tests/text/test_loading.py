import json
import pathlib
import shutil

import pytest
import tokenizers
from tokenizers import models, normalizers

from bert_jax.settings import UserError
from bert_jax.text import load
from bert_jax.text.loading import from_vocabulary_file
from bert_jax.text.wordpiece import SPECIAL_TOKENS, WordPiece
from bert_jax.text.words import WordRules

TOKENS = [*SPECIAL_TOKENS, "the", "##re", "\u2028", "é", "e"]


def write(path: pathlib.Path, tokens=TOKENS, newline="\n") -> pathlib.Path:
  path.write_bytes("".join(token + newline for token in tokens).encode())
  return path


def write_json(path: pathlib.Path, **changes) -> pathlib.Path:
  """A `tokenizer.json` as Hugging Face writes it, with some changes."""
  backend = tokenizers.Tokenizer(
    models.WordPiece({token: id for id, token in enumerate(TOKENS)})
  )
  backend.normalizer = normalizers.BertNormalizer(lowercase=False)
  path.write_text(json.dumps(json.loads(backend.to_str()) | changes))
  return path


@pytest.mark.parametrize(
  "rules",
  [
    WordRules(),
    WordRules(lowercase=False),
    WordRules(strip_accents=False, split_cjk=False),
    WordRules(lowercase=False, strip_accents=True),
  ],
)
def test_saved_and_loaded(tmp_path, rules):
  tokenizer = WordPiece(TOKENS, rules)
  tokenizer.save(tmp_path / "new" / "folder")
  loaded = load(tmp_path / "new" / "folder")
  assert loaded.tokens == tokenizer.tokens
  assert loaded.rules == rules
  loaded.save(tmp_path / "again")
  for file in (tmp_path / "again").iterdir():
    saved = tmp_path / "new" / "folder" / file.name
    assert file.read_bytes() == saved.read_bytes()
  (tmp_path / "again" / "tokenizer.json").unlink()
  assert load(tmp_path / "again").rules == rules


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_vocabulary_file(tmp_path, newline):
  path = write(tmp_path / "vocab.txt", newline=newline)
  for given in (path, str(path), tmp_path):
    loaded = load(given)
    assert loaded.tokens == tuple(TOKENS)
    assert loaded.rules == WordRules()
  path.write_bytes(path.read_bytes().removesuffix(newline.encode()))
  assert load(path).tokens == tuple(TOKENS)


def test_upper_case_pieces_mean_that_case_is_kept(tmp_path):
  assert not load(write(tmp_path / "a.txt", [*TOKENS, "##The"])).rules.lowercase
  assert load(write(tmp_path / "a.txt", TOKENS)).rules.lowercase
  rules = WordRules(lowercase=True)
  path = write(tmp_path / "a.txt", [*TOKENS, "The"])
  assert from_vocabulary_file(path, rules).rules == rules


def test_config_beside_the_vocabulary_decides(tmp_path):
  write(tmp_path / "vocab.txt", [*TOKENS, "The"])
  (tmp_path / "tokenizer_config.json").write_text(
    '{"do_lower_case": true, "strip_accents": false}'
  )
  assert load(tmp_path).rules == WordRules(strip_accents=False)


def test_json_of_hugging_face(tmp_path):
  write_json(tmp_path / "tokenizer.json")
  loaded = load(tmp_path)
  assert loaded.tokens == tuple(TOKENS)
  assert not loaded.rules.lowercase
  added = [{"content": "[NEW]", "id": len(TOKENS)}, {"content": "e", "id": 9}]
  write_json(tmp_path / "tokenizer.json", added_tokens=added)
  assert load(tmp_path).tokens == (*TOKENS, "[NEW]")
  steps = [{"type": "NFC"}, {"type": "BertNormalizer", "lowercase": False}]
  nested = {"type": "Sequence", "normalizers": steps}
  write_json(tmp_path / "tokenizer.json", normalizer=nested)
  assert load(tmp_path).rules == WordRules(lowercase=False)


def test_json_is_preferred_to_the_vocabulary_file(tmp_path):
  write_json(tmp_path / "tokenizer.json")
  write(tmp_path / "vocab.txt", [*SPECIAL_TOKENS, "other"])
  assert load(tmp_path).tokens == tuple(TOKENS)


@pytest.mark.parametrize(
  ("data", "message"),
  [
    (b"", r"vocab.txt: the vocabulary is empty"),
    (b"[PAD]\n\xff\xfe\n", "vocab.txt, line 2: invalid UTF-8"),
    (b"a\nb\nc\nb\n", "vocab.txt, line 4: 'b' is there already, on line 2"),
    (b"a\n\nb\n", "vocab.txt, line 2: '' cannot be a token"),
    (b"a\nb\n", r"vocab.txt: no \[PAD\]"),
  ],
)
def test_damaged_vocabulary_file(tmp_path, data, message):
  (tmp_path / "vocab.txt").write_bytes(data)
  with pytest.raises(UserError, match=message):
    load(tmp_path)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"model": {"type": "Unigram"}}, "expected a WordPiece model, got Unigram"),
    ({"model": 3}, "expected a WordPiece model"),
    ({"model": {"type": "WordPiece"}}, "damaged vocabulary"),
    ({"model": {"type": "WordPiece", "vocab": {"a": "x"}}}, "ids are not 0"),
    ({"model": {"type": "WordPiece", "vocab": {"a": 1}}}, "ids are not 0"),
    (
      {"model": {"type": "WordPiece", "vocab": {"a": 0, "b": 0}}},
      "ids are not",
    ),
    (
      {"model": {"type": "WordPiece", "continuing_subword_prefix": "@@"}},
      "expected pieces with '##', got '@@'",
    ),
    ({"added_tokens": [3]}, "damaged vocabulary"),
  ],
)
def test_damaged_json(tmp_path, changes, message):
  path = write_json(tmp_path / "tokenizer.json", **changes)
  with pytest.raises(UserError, match=message) as error:
    load(tmp_path)
  assert str(path) in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\x00"])
def test_what_is_no_json(tmp_path, text):
  (tmp_path / "tokenizer.json").write_text(text)
  with pytest.raises(UserError, match=r"tokenizer\.json: "):
    load(tmp_path)


def test_damaged_config(tmp_path):
  write(tmp_path / "vocab.txt")
  (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": "yes"}')
  with pytest.raises(UserError, match="do_lower_case: expected a bool"):
    load(tmp_path)


def test_nothing_to_load(tmp_path):
  with pytest.raises(UserError, match="no such file or folder"):
    load(tmp_path / "missing")
  with pytest.raises(UserError, match="found nothing"):
    load(tmp_path)
  (tmp_path / "config.json").write_text("{}")
  with pytest.raises(UserError, match=r"expected .*found config.json"):
    load(tmp_path)
  shutil.rmtree(tmp_path)
  with pytest.raises(UserError, match=str(tmp_path)):
    load(tmp_path)

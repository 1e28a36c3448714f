import json

import pytest

from bert_jax.text import load
from tests.errors import user_error
from tests.text import small_files
from tests.text.small_files import settings


@pytest.fixture
def folder(tmp_path):
  return small_files.roberta(tmp_path / "published")


def pieces(tokenizer, text):
  return [tokenizer.token(id) for id in tokenizer.encode(text).ids[1:-1]]


def test_any_of_the_files_opens_them_all(folder):
  want = load(folder).encode("the dog")
  assert load(folder / "vocab.json").encode("the dog") == want
  assert load(folder / "merges.txt").encode("the dog") == want


@pytest.mark.parametrize("form", ["vocab.json", "tokenizer.json"])
def test_a_space_before_the_first_word(tmp_path, folder, form):
  if form == "tokenizer.json":
    load(folder).save(tmp_path / "saved")
    folder = tmp_path / "saved"
  settings(folder, add_prefix_space=True)
  tokenizer = load(folder)
  assert pieces(tokenizer, "the dog") == ["Ġthe", "Ġdog"]
  assert tokenizer.encode("the dog").offsets[1:3] == [(0, 3), (4, 7)]
  tokenizer.save(tmp_path / "again")
  assert pieces(load(tmp_path / "again"), "the dog") == ["Ġthe", "Ġdog"]
  settings(folder, add_prefix_space="yes")
  with user_error("add_prefix_space: expected a bool"):
    load(folder)


def test_merges_without_a_version_and_with_other_line_ends(folder):
  path = folder / "merges.txt"
  want = load(folder).encode("the dog")
  text = path.read_text(encoding="utf-8").partition("\n")[2]
  path.write_bytes(text.replace("\n", "\r\n").encode())
  assert load(folder).encode("the dog") == want


def test_tokens_added_to_the_vocabulary(folder):
  size = len(load(folder))
  settings(folder, "added_tokens.json", **{"<e1>": size, "<new>": size + 1})
  settings(
    folder, "special_tokens_map.json", additional_special_tokens=["<e1>"]
  )
  tokenizer = load(folder)
  assert len(tokenizer) == size + 2
  assert pieces(tokenizer, "a<new>b")[1] == "<new>"
  assert pieces(tokenizer, "a <e1>b")[2:4] == ["<e1>", "b"]
  tokenizer.save(folder / "saved")
  again = load(folder / "saved").encode("a<new><e1>")
  assert again == tokenizer.encode("a<new><e1>")
  settings(folder, "added_tokens.json", **{"<new>": size + 7})
  with user_error(f"cannot have the id {size + 7}"):
    load(folder)


def test_settings_name_the_special_tokens(folder):
  path = folder / "vocab.json"
  ids = json.loads(path.read_text())
  ids["<filler>"] = ids.pop("<mask>")
  path.write_text(json.dumps(ids))
  assert load(folder).special.mask is None
  named = {"content": "<filler>", "lstrip": False}
  settings(folder, "special_tokens_map.json", mask_token=named)
  assert load(folder).token(load(folder).special.mask) == "<filler>"
  (folder / "special_tokens_map.json").unlink()
  settings(folder, mask_token="<mask>")
  assert load(folder).special.mask is None
  settings(folder, mask_token="<masked>")
  with user_error(r"config.json: mask_token: expected a"):
    load(folder)
  settings(folder, mask_token="<pad>")
  with user_error("expected different special tokens"):
    load(folder)


@pytest.mark.parametrize(
  ("name", "data", "message"),
  [
    ("merges.txt", b"#version: 0.2\nh e\nh e r\n", "merges.txt, line 3: expec"),
    ("merges.txt", b"h e\nqq zz\n", "merges.txt: not a tokenizer .*vocabulary"),
    ("merges.txt", b"h \xff\n", "merges.txt, line 1: invalid UTF-8"),
    ("vocab.json", b"{", "vocab.json: damaged JSON"),
    ("vocab.json", b'["a"]', "vocab.json: expected a JSON object"),
    ("vocab.json", b'{"a": 0, "b": 0}', "vocab.json: expected different ids"),
    ("vocab.json", b'{"a": "0"}', "vocab.json: damaged vocabulary"),
    ("vocab.json", b'{"\\ud800": 0}', "vocab.json: no token among its 1"),
    ("vocab.json", b"{}", "vocab.json: no token among its 0"),
  ],
)
def test_damaged_files(folder, name, data, message):
  (folder / name).write_bytes(data)
  with user_error(message):
    load(folder)


def test_a_missing_file(folder):
  (folder / "merges.txt").unlink()
  with user_error(r"merges\.txt: No such file"):
    load(folder)

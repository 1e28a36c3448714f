import io
import pickle

import pytest
import sentencepiece

from bert_jax.settings import UserError
from bert_jax.text import load
from bert_jax.text.sentencepiece import SentencePiece

SENTENCES = [
  "the quick brown fox jumps over the lazy dog",
  "a fine office for the first reader of the finest wörld",
  "pack my box with five dozen jugs of liquor in 23 days",
  "how vexingly quick daft zebras jump, and MASK is a word too",
]


def train(**options) -> bytes:
  model = io.BytesIO()
  defaults = {
    "pad_id": 0,
    "unk_id": 1,
    "bos_id": -1,
    "eos_id": -1,
    "control_symbols": ["[CLS]", "[SEP]"],
    "user_defined_symbols": ["[MASK]"],
  }
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(SENTENCES * 20),
    model_writer=model,
    vocab_size=80,
    hard_vocab_limit=False,
    minloglevel=2,
    **(defaults | options),
  )
  return model.getvalue()


@pytest.fixture(scope="module")
def model():
  return train()


@pytest.fixture(scope="module")
def tokenizer(model):
  return SentencePiece(model)


def test_ids_equal_the_library(model, tokenizer):
  plain = sentencepiece.SentencePieceProcessor(model_proto=model)
  texts = [*SENTENCES, "ﬁne  ２３ e\u0301", "漢字 😀", ""]
  want = plain.encode(texts)
  assert tokenizer.encode_pieces(texts) == want
  special = tokenizer.special
  for text, ids in zip(texts, want):
    encoding = tokenizer.encode(text, "the dog")
    pair = plain.encode("the dog")
    assert encoding.ids == [
      special.cls, *ids, special.sep, *pair, special.sep
    ]  # fmt: skip
    first = len(ids) + 2
    assert encoding.segments == [0] * first + [1] * (len(pair) + 1)
    assert len(encoding.offsets) == len(encoding.ids)


@pytest.mark.parametrize(
  "text", ["  the wörld, 漢 😀 the dog", SENTENCES[0], SENTENCES[3]]
)
def test_offsets_slice_the_text(tokenizer, text):
  encoding = tokenizer.encode(text)
  slices = [text[start:end] for start, end in encoding.offsets]
  assert "".join(slices) == text.replace(" ", "")
  for id, part in list(zip(encoding.ids, slices))[1:-1]:
    if id != tokenizer.special.unknown:
      assert part == tokenizer.token(id).removeprefix("▁")


def test_offsets_under_normalisation(tokenizer):
  # NFKC makes "fi" of the ligature, "23" of wide digits, one of "o" and dots.
  text = "a ﬁne wo\u0308rld ２３"
  encoding = tokenizer.encode(text)
  pieces = list(zip(map(tokenizer.token, encoding.ids), encoding.offsets))[1:-1]
  covered = set()
  for piece, (start, end) in pieces:
    assert piece == "▁" or start < end
    assert not text[start:end].startswith(" ")
    covered |= set(range(start, end))
  assert covered == {at for at, mark in enumerate(text) if mark != " "}


@pytest.mark.parametrize("name", ["[CLS]", "[SEP]", "[MASK]", "<pad>", "<unk>"])
def test_a_literal_special_token_is_text(tokenizer, name):
  special = tokenizer.special
  ids = tokenizer.encode_pieces([f"the {name} dog"])[0]
  assert not {special.cls, special.sep, special.mask, special.pad} & set(ids)
  inner = tokenizer.encode(f"the {name} dog").offsets[1:-1]
  assert inner[-1][1] == len(f"the {name} dog")


def test_continuations(tokenizer):
  special = set(vars(tokenizer.special).values())
  for id in range(len(tokenizer)):
    want = id not in special and not tokenizer.token(id).startswith("▁")
    assert tokenizer.continuations[id] == want
  assert tokenizer.continuations.shape == (len(tokenizer),)


def test_decode(tokenizer):
  ids = tokenizer.encode("the dog", "a fox").ids
  assert tokenizer.decode(ids) == "the dog a fox"
  assert tokenizer.decode([]) == ""
  for id in (-1, len(tokenizer)):
    with pytest.raises(IndexError):
      tokenizer.decode([id])
    with pytest.raises(IndexError):
      tokenizer.token(id)


def test_saved_loaded_and_pickled(tmp_path, model, tokenizer):
  tokenizer.save(tmp_path / "new")
  assert (tmp_path / "new" / "spiece.model").read_bytes() == model
  for copy in (
    load(tmp_path / "new"),
    load(tmp_path / "new" / "spiece.model"),
    pickle.loads(pickle.dumps(tokenizer)),
  ):
    assert copy.encode(SENTENCES[0]) == tokenizer.encode(SENTENCES[0])
    assert copy.special == tokenizer.special


def test_model_beside_another_kind_of_json(tmp_path, tokenizer):
  tokenizer.save(tmp_path)
  (tmp_path / "tokenizer.json").write_text('{"model": {"type": "Unigram"}}')
  assert isinstance(load(tmp_path), SentencePiece)


def test_names_of_xlnet():
  special = {"control_symbols": ["<cls>", "<sep>", "<mask>"]}
  tokenizer = SentencePiece(train(**special, user_defined_symbols=[]))
  assert tokenizer.token(tokenizer.special.mask) == "<mask>"
  assert tokenizer.token(tokenizer.special.cls) == "<cls>"


def test_missing_special_token(tmp_path):
  (tmp_path / "a.model").write_bytes(train(user_defined_symbols=[]))
  with pytest.raises(UserError, match=r"a.model: no mask token .*\[MASK\]"):
    load(tmp_path)


@pytest.mark.parametrize("damage", ["empty", "text", "cut"])
def test_damaged_model(tmp_path, model, damage):
  data = {"empty": b"", "text": b"not a model", "cut": model[:-50]}[damage]
  (tmp_path / "a.model").write_bytes(data)
  with pytest.raises(UserError, match=r"a\.model: no "):
    load(tmp_path)


def test_what_is_not_text(tokenizer):
  with pytest.raises(UserError, match="text: expected a string"):
    tokenizer.encode(None)
  with pytest.raises(UserError, match=r"texts\[0\]: expected a string"):
    tokenizer.encode_pieces([3])
  assert tokenizer.encode("a\ud800b").offsets[-2][1] == 3

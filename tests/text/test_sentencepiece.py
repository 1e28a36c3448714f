import pytest
from sentencepiece import sentencepiece_model_pb2

from bert_jax.text import load
from tests.errors import user_error
from tests.text import small_files

CASED = [*small_files.ALBERT_PIECES, "▁The", "▁cafés"]


def pieces(tokenizer, text):
  (ids,) = tokenizer.encode_pieces([text])
  return " ".join(map(tokenizer.token, ids))


@pytest.mark.parametrize(
  ("settings", "want"),
  [
    ({}, "▁the ▁cat"),
    ({"do_lower_case": True, "keep_accents": False}, "▁the ▁cat"),
    ({"do_lower_case": False}, "▁The ▁cat"),
    ({"keep_accents": True}, "▁the ▁ <unk>"),
  ],
)
def test_case_and_accents_of_albert(tmp_path, settings, want):
  small_files.albert(tmp_path, CASED if "▁The" in want else None)
  small_files.settings(tmp_path, **settings)
  assert pieces(load(tmp_path), "The cát") == want
  load(tmp_path).save(tmp_path / "saved")
  assert pieces(load(tmp_path / "saved"), "The cát") == want


def test_upper_case_pieces_mean_that_case_and_accents_are_kept(tmp_path):
  tokenizer = load(small_files.albert(tmp_path, CASED))
  assert pieces(tokenizer, "The cafés the") == "▁The ▁cafés ▁the"
  # One alone in a hundred does not: "TM" is in uncased models too.
  more = [f"▁{number}e" for number in range(200)]
  small_files.albert(tmp_path, [*small_files.ALBERT_PIECES, *more, "TM"])
  assert pieces(load(tmp_path), "The dog") == "▁the ▁dog"


def test_ids_of_fairseq(tmp_path):
  tokenizer = load(small_files.xlm_r(tmp_path))
  special = tokenizer.special
  assert vars(special) == {
    "cls": 0, "pad": 1, "sep": 2, "unknown": 3, "mask": len(tokenizer) - 1
  }  # fmt: skip
  listed = [tokenizer.token(id) for id in range(4, len(tokenizer) - 1)]
  assert listed == small_files.XLM_R_PIECES[3:]


def test_a_file_by_any_name(tmp_path):
  path = small_files.albert(tmp_path) / "spiece.model"
  path = path.rename(tmp_path / "30k-clean.model")
  want = load(path).encode("the dog")
  assert load(tmp_path).encode("the dog") == want
  load(tmp_path).save(tmp_path / "saved")
  assert (tmp_path / "saved" / "spiece.model").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("file", ["tokenizer_config.json", "config.json"])
def test_a_class_that_gives_other_ids_is_refused(tmp_path, file):
  small_files.xlm_r(tmp_path)
  named = {"tokenizer_class": "XLMRobertaTokenizerFast"}
  small_files.settings(tmp_path, file, **named)
  assert len(load(tmp_path)) == 20
  small_files.settings(tmp_path, file, tokenizer_class="CamembertTokenizer")
  with user_error("CamembertTokenizer in the settings"):
    load(tmp_path)


def changed(data, kind):
  proto = sentencepiece_model_pb2.ModelProto.FromString(data)
  trainer, pieces = proto.trainer_spec, proto.pieces
  match kind:
    case "BPE":
      trainer.model_type = trainer.BPE
    case "byte fallback":
      trainer.byte_fallback = True
    case "duplicate":
      pieces[-1].piece = pieces[-2].piece
    case "no pieces":
      del pieces[:]
    case "no mask":
      del pieces[4]
    case "no padding":
      pieces[0].piece = "▁pad"
    case "character map":
      proto.normalizer_spec.precompiled_charsmap = b"\xff\xff\xff\xff"
  return proto.SerializeToString()


@pytest.mark.parametrize(
  ("kind", "message"),
  [
    ("BPE", "expected a Unigram model .* got BPE"),
    ("byte fallback", "got UNIGRAM with byte fallback"),
    ("duplicate", "duplicate"),
    ("no pieces", "no pieces"),
    ("no mask", r"expected pieces \[CLS\] \[SEP\] \[MASK\], as in ALBERT"),
    ("no padding", r"no token among its 19 for pad \(\[PAD\] or <pad>\)"),
    ("character map", "not a tokenizer"),
  ],
)
def test_models_of_another_kind(tmp_path, kind, message):
  path = small_files.albert(tmp_path) / "spiece.model"
  path.write_bytes(changed(path.read_bytes(), kind))
  with user_error(message) as error:
    load(tmp_path)
  assert str(path) in str(error.value)


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "not utf-8"])
def test_damaged_model(tmp_path, damage):
  path = small_files.albert(tmp_path) / "spiece.model"
  data = path.read_bytes()
  path.write_bytes(
    {
      "empty": b"",
      "text": b"not a model",
      "cut": data[:-50],
      "not utf-8": data.replace("▁cat".encode(), b"\xff\xfe\xfdcat"),
    }[damage]
  )
  with user_error(r"spiece\.model: (not a |invalid)"):
    load(tmp_path)

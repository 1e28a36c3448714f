"""Small tokenizers in the file format of each family."""

import functools
import io
import json

import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from tests import small

MERGES = [
  ("Ġ", "t"),
  ("h", "e"),
  ("Ġt", "he"),
  ("o", "g"),
  ("Ġ", "d"),
  ("Ġd", "og"),
  ("d", "og"),
  ("c", "a"),
  ("Ġ", "ca"),
  ("Ġca", "t"),
]
ALBERT_PIECES = [
  *("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]", "-", '"'),
  *("▁the", "▁dog", "▁cat", "s", "▁", "▁9", "9", "▁9,", "9,", ",", "e", "▁a"),
]
DEBERTA_PIECES = [
  *("[PAD]", "[CLS]", "[SEP]", "[UNK]", "-", "▁the", "▁The", "▁dog", "▁cat"),
  *("s", "▁", ",", "e", "▁a", "a", "9", "fi"),
]
XLM_R_PIECES = [
  *("<unk>", "<s>", "</s>", ",", "▁the", "▁The", "▁dog", "s", "▁", "▁café"),
  *("fi", "a", "m", "k", "<", ">", "<mask>s", "e"),
]


def settings(folder, name="tokenizer_config.json", **values):
  (folder / name).write_text(json.dumps(values))


def change(path, **changes):
  """Changes keys of a JSON file."""
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def byte_level_vocabulary():
  merged = dict.fromkeys(left + right for left, right in MERGES)
  return [*sorted(pre_tokenizers.ByteLevel.alphabet()), *merged]


def roberta(folder):
  """`vocab.json` and `merges.txt`, as fairseq's models have them."""
  folder.mkdir(parents=True, exist_ok=True)
  tokens = ["<s>", "<pad>", "</s>", "<unk>", *byte_level_vocabulary(), "<mask>"]
  ids = {token: id for id, token in enumerate(tokens)}
  (folder / "vocab.json").write_text(json.dumps(ids))
  lines = ["#version: 0.2", *map(" ".join, MERGES)]
  (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
  return folder


def modernbert(folder):
  """`tokenizer.json` with added tokens after the vocabulary."""
  folder.mkdir(parents=True, exist_ok=True)
  vocab = {token: id for id, token in enumerate(byte_level_vocabulary())}
  backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=MERGES))
  backend.normalizer = normalizers.NFC()
  backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  backend.decoder = decoders.ByteLevel()
  backend.add_tokens(["   ", "  ", "|||EMAIL|||"])
  special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]"]
  backend.add_special_tokens(special)
  mask = tokenizers.AddedToken("[MASK]", lstrip=True, normalized=False)
  backend.add_special_tokens([mask])
  backend.post_processor = processors.TemplateProcessing(
    single="[CLS] $A [SEP]",
    pair="[CLS] $A [SEP] $B [SEP]",
    special_tokens=[(t, backend.token_to_id(t)) for t in ("[CLS]", "[SEP]")],
  )
  backend.save(str(folder / "tokenizer.json"))
  roles = ("unk_token", "cls_token", "sep_token", "pad_token", "mask_token")
  settings = dict(zip(roles, [*special, "[MASK]"]))
  settings["tokenizer_class"] = "PreTrainedTokenizerFast"
  (folder / "tokenizer_config.json").write_text(json.dumps(settings))
  return folder


@functools.cache
def character_map():
  """SentencePiece's normalisation, NFKC and a little more, for any model."""
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(["a b"] * 10),
    model_writer=model,
    vocab_size=8,
    hard_vocab_limit=False,
    minloglevel=2,
  )
  proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
  return proto.normalizer_spec.precompiled_charsmap


def model(pieces, unknown, control):
  """A Unigram model; a piece is the likelier the longer it is."""
  proto = sentencepiece_model_pb2.ModelProto()
  proto.normalizer_spec.precompiled_charsmap = character_map()
  proto.trainer_spec.unk_id = unknown
  proto.trainer_spec.bos_id = proto.trainer_spec.eos_id = -1
  for id, piece in enumerate(pieces):
    added = proto.pieces.add(piece=piece, score=0.0)
    if id == unknown:
      added.type = added.UNKNOWN
    elif piece in control:
      added.type = added.CONTROL
    elif piece in '-"':
      added.type = added.USER_DEFINED
    else:
      added.score = -10.0 / len(piece)
  return proto.SerializeToString()


def albert(folder, pieces=None):
  """`spiece.model` alone."""
  folder.mkdir(parents=True, exist_ok=True)
  control = {"<pad>", "[CLS]", "[SEP]", "[MASK]"}
  data = model(pieces or ALBERT_PIECES, 1, control)
  (folder / "spiece.model").write_bytes(data)
  return folder


def xlm_r(folder):
  """`sentencepiece.bpe.model` alone."""
  folder.mkdir(parents=True, exist_ok=True)
  data = model(XLM_R_PIECES, 0, {"<s>", "</s>"})
  (folder / "sentencepiece.bpe.model").write_bytes(data)
  return folder


def deberta(folder):
  """`spm.model` alone."""
  folder.mkdir(parents=True, exist_ok=True)
  data = model(DEBERTA_PIECES, 3, {"[PAD]", "[CLS]", "[SEP]"})
  (folder / "spm.model").write_bytes(data)
  return folder


def wordpiece(folder):
  """`vocab.txt`, and what is saved with it."""
  small.tokenizer().save(folder)
  return folder


FAMILIES = {
  "roberta": roberta,
  "modernbert": modernbert,
  "albert": albert,
  "xlm_r": xlm_r,
  "deberta": deberta,
}

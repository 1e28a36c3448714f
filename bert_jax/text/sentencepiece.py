"""Loads SentencePiece models of ALBERT, XLM-R and DeBERTa-v3.

The ids are those of the family's published `tokenizer.json`. They differ from
those of SentencePiece itself, and of the Python tokenizers of Transformers, if
a letter and its accent are separate characters, and between segmentations of
equal likelihood. The tokenizers that Transformers 4.57 makes of a `.model` file
differ from the published ones: ALBERT's start a new word after each of the
characters `()"-.–£€`. DeBERTa-v3 has no published `tokenizer.json`; its ids are
those of Transformers' fast tokenizer.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import tokenizers
from google.protobuf.message import DecodeError
from sentencepiece import sentencepiece_model_pb2
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from bert_jax.settings import UserError
from bert_jax.text import config_files, files, json_format
from bert_jax.text.config_files import Added
from bert_jax.text.tokenizer_json import JsonTokenizer

ALBERT = "AlbertTokenizer"
XLM_R = "XLMRobertaTokenizer"
DEBERTA = "DebertaV2Tokenizer"
FILE_NAMES = {
  ALBERT: "spiece.model",
  XLM_R: "sentencepiece.bpe.model",
  DEBERTA: "spm.model",
}
"""The file name of the model, by class of Transformers."""
_SPACE = "▁"
_FAIRSEQ = ("<unk>", "<s>", "</s>")
_MASK = "[MASK]"


def load(path: pathlib.Path) -> JsonTokenizer:
  """Loads a `.model` file.

  For ALBERT the settings `do_lower_case` and `keep_accents` are read from
  `tokenizer_config.json`. Their defaults are true and false, as in
  Transformers. But without `do_lower_case`, a vocabulary with upper-case tokens
  keeps case and accents.

  Raises:
    UserError: the file is missing, damaged or of another family.
  """
  where = str(path)
  config_files.check_class(path, tuple(FILE_NAMES))
  data = files.read_bytes(path)
  proto = parse(data, where)
  kind = family(proto, where)
  ids = {piece: id for id, (piece, _) in enumerate(scored_pieces(proto, kind))}
  names, added = config_files.tokens(path.parent, ids, where)
  config_files.check_frame(names, ids, where)
  settings = {}
  if kind == ALBERT:
    lowercase = config_files.flag(path.parent, "do_lower_case")
    accents = config_files.flag(path.parent, "keep_accents")
    cased = lowercase is None and is_cased(proto)
    settings = {
      "do_lower_case": not cased if lowercase is None else lowercase,
      "keep_accents": cased if accents is None else accents,
    }
  elif kind == DEBERTA:
    added = _user_defined(proto) | added
    settings = {
      name: bool(config_files.flag(path.parent, name))
      for name in ("do_lower_case", "split_by_punct")
    }
  return JsonTokenizer.of_backend(
    build(proto, kind, names, settings, where),
    {FILE_NAMES[kind]: data},
    names,
    config_files.to_save(
      kind,
      names,
      **settings,
      split_special_tokens=config_files.flag(path.parent, config_files.SPLIT),
    ),
    added,
    where,
  )


def _user_defined(
  proto: sentencepiece_model_pb2.ModelProto,
) -> dict[str, Added]:
  """Pieces that are always tokens, which Transformers adds to DeBERTa's."""
  return {
    piece.piece: Added(
      tokenizers.AddedToken(piece.piece, normalized=False), id, has_flags=True
    )
    for id, piece in enumerate(proto.pieces)
    if piece.type == piece.USER_DEFINED
  }


def parse(data: bytes, where: str) -> sentencepiece_model_pb2.ModelProto:
  """Parses a `.model` file; a `UserError` if it is no sound Unigram model."""
  try:
    proto = sentencepiece_model_pb2.ModelProto.FromString(data)
  except DecodeError as error:
    raise UserError(f"{where}: not a SentencePiece model ({error})") from error
  trainer = proto.trainer_spec
  pieces = {piece.piece for piece in proto.pieces}
  if not pieces:
    raise UserError(f"{where}: not a SentencePiece model (it has no pieces)")
  if trainer.model_type != trainer.UNIGRAM or trainer.byte_fallback:
    kind = trainer.ModelType.Name(trainer.model_type)
    raise UserError(
      f"{where}: expected a Unigram model without byte fallback, as ALBERT"
      f" and XLM-R have, got {kind}"
      f"{' with byte fallback' if trainer.byte_fallback else ''}"
    )
  # The library returns bytes for invalid UTF-8.
  if not all(isinstance(piece, str) for piece in pieces):
    raise UserError(f"{where}: invalid UTF-8 in a piece")
  if len(pieces) < len(proto.pieces) or "" in pieces:
    raise UserError(f"{where}: a piece is empty or duplicate")
  return proto


def family(proto: sentencepiece_model_pb2.ModelProto, where: str) -> str:
  """The class of Transformers, a key of `FILE_NAMES`, or a `UserError`."""
  first = tuple(piece.piece for piece in proto.pieces[:3])
  pieces = {piece.piece for piece in proto.pieces}
  if {"[CLS]", "[SEP]", _MASK} <= pieces:
    return ALBERT
  if {"[PAD]", "[CLS]", "[SEP]", "[UNK]"} <= pieces:
    return DEBERTA
  if first == _FAIRSEQ and "<mask>" not in pieces:
    return XLM_R
  raise UserError(
    f"{where}: expected pieces [CLS] [SEP] [MASK], as in ALBERT,"
    f" {' '.join(_FAIRSEQ)} first and no <mask>, as in XLM-R, or [PAD] [CLS]"
    f" [SEP] [UNK], as in DeBERTa, got {' '.join(first)} first"
  )


def scored_pieces(
  proto: sentencepiece_model_pb2.ModelProto, kind: str
) -> list[tuple[str, float]]:
  """The pieces with their log-likelihoods, in the order of the ids.

  XLM-R has the ids of fairseq: four special tokens first, the mask last; it is
  last in DeBERTa too. ALBERT avoids pieces that end in a digit and a comma, for
  instance `9,`.
  """
  pieces = [(piece.piece, piece.score) for piece in proto.pieces]
  if kind == XLM_R:
    special = [(name, 0.0) for name in ("<s>", "<pad>", "</s>", "<unk>")]
    return [*special, *pieces[len(_FAIRSEQ) :], ("<mask>", 0.0)]
  if kind == DEBERTA:
    return [*pieces, (_MASK, 0.0)]
  return [
    (piece, score - 100 * (piece[-1] == "," and piece[-2:-1].isdigit()))
    for piece, score in pieces
  ]


def is_cased(proto: sentencepiece_model_pb2.ModelProto) -> bool:
  """Whether more than 1 % of the pieces have an upper-case letter.

  Uncased models have a few such pieces, because the normalization after
  lower-casing converts the trademark sign to `TM`.
  """
  pieces = [p.piece for p in proto.pieces if p.type == p.NORMAL]
  upper = sum(piece != piece.lower() for piece in pieces)
  return 100 * upper > len(pieces)


def build(
  proto: sentencepiece_model_pb2.ModelProto,
  kind: str,
  names: Mapping[str, str],
  settings: Mapping[str, Any],
  where: str,
) -> tokenizers.Tokenizer:
  """Builds the tokenizer of the family's published `tokenizer.json`.

  `names` has the token of each field of `SpecialIds`; ALBERT has the settings
  `do_lower_case` and `keep_accents`, DeBERTa `do_lower_case` and
  `split_by_punct`.

  Raises:
    UserError: the `tokenizers` library rejects the model.
  """
  vocab = scored_pieces(proto, kind)
  ids = {piece: id for id, (piece, _) in enumerate(vocab)}
  with json_format.library_errors(where):
    model = models.Unigram(vocab, ids[names["unknown"]])
    steps = _normalizers(proto, kind, settings)
  backend = tokenizers.Tokenizer(model)
  backend.normalizer = normalizers.Sequence(steps)
  splits: list[pre_tokenizers.PreTokenizer] = []
  if kind != DEBERTA:
    splits.append(pre_tokenizers.WhitespaceSplit())
  elif settings["split_by_punct"]:
    splits.append(pre_tokenizers.Punctuation(behavior="isolated"))
  backend.pre_tokenizer = pre_tokenizers.Sequence(
    [*splits, pre_tokenizers.Metaspace(_SPACE)]
  )
  backend.decoder = decoders.Metaspace(_SPACE)
  cls, sep = names["cls"], names["sep"]
  pair = f"{sep} $B {sep}" if kind == XLM_R else f"$B:1 {sep}:1"
  backend.post_processor = processors.TemplateProcessing(
    single=f"{cls} $A {sep}",
    pair=f"{cls} $A {sep} {pair}",
    special_tokens=[(cls, ids[cls]), (sep, ids[sep])],
  )
  return backend


def _normalizers(
  proto: sentencepiece_model_pb2.ModelProto,
  kind: str,
  settings: Mapping[str, Any],
) -> list[normalizers.Normalizer]:
  steps: list[normalizers.Normalizer] = []
  if kind == ALBERT:
    steps += [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if not settings["keep_accents"]:
      steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if settings["do_lower_case"]:
      steps.append(normalizers.Lowercase())
  if kind == DEBERTA:
    if settings["do_lower_case"]:
      steps.append(normalizers.Lowercase())
    steps.append(normalizers.Strip())
  if charsmap := proto.normalizer_spec.precompiled_charsmap:
    steps.append(normalizers.Precompiled(charsmap))
  if kind == DEBERTA:
    steps.append(normalizers.Replace(tokenizers.Regex(" {2,}"), " "))
  return steps

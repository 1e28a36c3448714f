"""SentencePiece models, as ALBERT and XLNet have them."""

import pathlib
from collections.abc import Sequence

import numpy as np
import sentencepiece
from google.protobuf.message import DecodeError
from sentencepiece import sentencepiece_model_pb2

from bert_jax.settings import UserError
from bert_jax.text.inputs import checked, checked_list
from bert_jax.text.tokenizer import Encoding, SpecialIds

SPACE = "▁"
"""What a piece that starts a word starts with."""
FILE_NAME = "spiece.model"
_NAMES = {
  "pad": ("<pad>", "[PAD]"),
  "unknown": ("<unk>", "[UNK]"),
  "cls": ("[CLS]", "<cls>", "<s>"),
  "sep": ("[SEP]", "<sep>", "</s>"),
  "mask": ("[MASK]", "<mask>"),
}


class SentencePiece:
  """A `Tokenizer` of a SentencePiece model (Kudo and Richardson, 2018).

  The model normalises text itself; it is not lower-cased or stripped of
  accents beyond what the model does.

  Attributes:
    special: the ids of the special tokens.
    continuations: for each id, whether its piece continues a word: whether
      it does not start with the mark of a space; bool, shape [vocabulary].
  """

  def __init__(self, model: bytes, where: str = "model"):
    """Makes the tokenizer of a serialised model.

    Args:
      model: the bytes of a `.model` file.
      where: what messages call the model, such as its file.

    Raises:
      UserError: these are no SentencePiece model, or one without some
        special token.
    """
    self._model = bytes(model)
    try:
      proto = sentencepiece_model_pb2.ModelProto.FromString(self._model)
    except DecodeError as error:
      raise UserError(f"{where}: no SentencePiece model ({error})") from error
    pieces = [piece.piece for piece in proto.pieces]
    self.special = _special_ids(pieces, where)
    self._ids = frozenset(vars(self.special).values())
    # A special token that the model matches in text ("user-defined") is
    # matched no longer: text is only text.
    for id in self._ids - {self.special.unknown}:
      proto.pieces[id].type = proto.SentencePiece.CONTROL
    try:
      self._processor = sentencepiece.SentencePieceProcessor(
        model_proto=proto.SerializeToString()
      )
    except RuntimeError as error:
      raise UserError(f"{where}: no SentencePiece model ({error})") from error
    self._pieces = tuple(pieces)
    self.continuations = np.array(
      [
        id not in self._ids and not piece.startswith(SPACE)
        for id, piece in enumerate(pieces)
      ]
    )

  def __reduce__(self):
    return type(self), (self._model,)

  def __len__(self) -> int:
    return len(self._pieces)

  def encode(self, text: str, pair: str | None = None) -> Encoding:
    """See `Tokenizer.encode`.

    Offsets leave out the space that a piece stands for. Where the model's
    normalisation makes several pieces of one character, as of a ligature,
    each has that character's offsets.

    Raises:
      UserError: `text` or `pair` is not a string.
    """
    encoding = Encoding([self.special.cls], [0], [(0, 0)])
    self._add(encoding, checked(text), segment=0)
    if pair is not None:
      self._add(encoding, checked(pair, "pair"), segment=1)
    return encoding

  def _add(self, encoding: Encoding, text: str, segment: int) -> None:
    """Adds the pieces of `text` and a separator to `encoding`."""
    mapping = self._processor.encode_as_offset_mapping(text)
    ids = [*mapping["ids"], self.special.sep]
    encoding.ids.extend(ids)
    encoding.segments.extend([segment] * len(ids))
    for piece, (start, end) in zip(mapping["pieces"], mapping["offsets"]):
      while start < end and text[start].isspace():
        start += 1
      if start == end and piece != SPACE:
        end = min(start + 1, len(text))
      encoding.offsets.append((start, end))
    encoding.offsets.append((0, 0))

  def encode_pieces(self, texts: Sequence[str]) -> list[list[int]]:
    """See `Tokenizer.encode_pieces`.

    Raises:
      UserError: `texts` is not a sequence of strings.
    """
    return self._processor.encode(checked_list(texts))

  def token(self, id: int) -> str:
    """See `Tokenizer.token`."""
    if not 0 <= id < len(self._pieces):
      raise IndexError(f"no token {id}: the vocabulary has {len(self._pieces)}")
    return self._pieces[id]

  def decode(self, ids: Sequence[int]) -> str:
    """See `Tokenizer.decode`.

    Raises:
      IndexError: the vocabulary has no such id.
    """
    for id in ids:
      self.token(id)
    return self._processor.decode(
      [int(id) for id in ids if id not in self._ids]
    )

  def save(self, folder: pathlib.Path) -> None:
    """Writes `spiece.model`, byte for byte the model that was given."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).write_bytes(self._model)


def _special_ids(pieces: Sequence[str], where: str) -> SpecialIds:
  ids = {piece: id for id, piece in enumerate(pieces)}
  found = {}
  for role, names in _NAMES.items():
    name = next((name for name in names if name in ids), None)
    if name is None:
      raise UserError(
        f"{where}: no {role} token among its {len(ids)} pieces; expected one"
        f" of {', '.join(names)}"
      )
    found[role] = ids[name]
  return SpecialIds(**found)

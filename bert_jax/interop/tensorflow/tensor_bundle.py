"""Reads TensorFlow's checkpoints, which Google's BERT releases are.

A checkpoint `bert_model.ckpt` is an index, `bert_model.ckpt.index`, and data
files, `bert_model.ckpt.data-00000-of-00001` and on: what TensorFlow calls a
tensor bundle (`tensorflow/core/util/tensor_bundle/tensor_bundle.cc`; both
`tf.compat.v1.train.Saver` and `tf.train.Checkpoint` write it).

Nothing in the files is trusted: all that the index says is checked against
the files when they are opened, and each tensor's checksum when it is read.
"""

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np

from bert_jax.interop.tensorflow import bundle_index
from bert_jax.interop.tensorflow.bundle_index import Piece
from bert_jax.interop.tensors import TensorInfo
from bert_jax.settings import UserError
from bert_jax.storage.checksums import masked_crc32c


@dataclasses.dataclass(frozen=True)
class TensorBundle:
  """An open TensorFlow checkpoint: a `Tensors`; `open` makes it.

  Attributes:
    shapes: every tensor by its name; a partitioned variable is one tensor.
      The dtype of a tensor that cannot be read, as of strings, is object.
    pieces: where the bytes of each tensor are.
  """

  shapes: Mapping[str, TensorInfo]
  pieces: Mapping[str, tuple[Piece, ...]] = dataclasses.field(repr=False)

  @classmethod
  def open(cls, prefix: pathlib.Path) -> "TensorBundle":
    """Reads and checks the index; no tensor is read yet.

    Args:
      prefix: what the files' paths start with, such as
        `uncased_L-12_H-768_A-12/bert_model.ckpt`.

    Raises:
      UserError: a file is missing, damaged, or not of a form that is read.
    """
    return cls(*bundle_index.read(pathlib.Path(prefix)))

  def read(self, name: str) -> np.ndarray:
    """The tensor of that name, a fresh array.

    Only its own bytes are read; no memory is taken but that of the tensor
    and, for a partitioned variable, of one slice.

    Raises:
      KeyError: no such tensor.
      UserError: its bytes do not have the checksum that the index has, or
        its type is not one that is read.
    """
    info, pieces = self.shapes[name], self.pieces[name]
    if info.dtype == bundle_index.OTHER:
      known = ", ".join(map(str, bundle_index.DTYPES.values()))
      raise UserError(
        f"{pieces[0].path}: {name!r} is of none of the types {known}"
      )
    if len(pieces) == 1:
      return _read_piece(name, pieces[0], info.dtype)
    tensor = np.empty(info.shape, info.dtype)
    for piece in pieces:
      tensor[piece.where] = _read_piece(name, piece, info.dtype)
    return tensor


def _read_piece(name: str, piece: Piece, dtype: np.dtype) -> np.ndarray:
  try:
    data = np.fromfile(
      piece.path, np.uint8, count=piece.size, offset=piece.offset
    )
  except OSError as error:
    raise UserError(f"{piece.path}: {error.strerror}") from None
  if len(data) < piece.size:
    raise UserError(f"{piece.path}: shorter than when it was opened")
  if masked_crc32c(data) != piece.checksum:
    raise UserError(
      f"{piece.path}: wrong checksum of {name!r}; the file is damaged, or the"
      " index is of another checkpoint"
    )
  if dtype == np.bool_ and data.max(initial=0) > 1:
    raise UserError(f"{piece.path}: {name!r} has a boolean that is not 0 or 1")
  return data.view(dtype).reshape(piece.shape)

"""Reads TensorFlow checkpoints, the format of Google's BERT releases.

A checkpoint `bert_model.ckpt` consists of an index, `bert_model.ckpt.index`,
and data files, `bert_model.ckpt.data-00000-of-00001` and so on. TensorFlow
calls it a tensor bundle, `tensorflow/core/util/tensor_bundle/tensor_bundle.cc`;
both `tf.compat.v1.train.Saver` and `tf.train.Checkpoint` write it.

The files are not trusted: the index is checked against the data files when a
checkpoint is opened, and the checksum of each tensor when it is read.
"""

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np

from bert_jax.interop.tensor_reader import TensorInfo
from bert_jax.interop.tensorflow import bundle_index
from bert_jax.interop.tensorflow.bundle_index import Piece
from bert_jax.settings import UserError
from bert_jax.storage.checksums import masked_crc32c


@dataclasses.dataclass(frozen=True)
class TensorBundle:
  """An open TensorFlow checkpoint, a `TensorReader`; see `open`.

  Attributes:
    shapes: the shape and dtype of each tensor by its name; a partitioned
      variable is one tensor. The dtype of an unsupported tensor, such as one
      of strings, is object.
    pieces: the pieces of each tensor in the data files.
  """

  shapes: Mapping[str, TensorInfo]
  pieces: Mapping[str, tuple[Piece, ...]] = dataclasses.field(repr=False)

  @classmethod
  def open(cls, prefix: pathlib.Path) -> "TensorBundle":
    """Reads and checks the index, without reading tensors.

    `prefix` is the common prefix of the files, `FOLDER/bert_model.ckpt`.

    Raises:
      UserError: a file is missing, damaged or not supported.
    """
    return cls(*bundle_index.read(pathlib.Path(prefix)))

  def read(self, name: str) -> np.ndarray:
    """Reads a tensor into a new array.

    Only its bytes are read, and only the memory of the tensor and, for a
    partitioned variable, of one slice is used.

    Raises:
      KeyError: there is no such tensor.
      UserError: its bytes do not match the checksum in the index, or its dtype
        is not supported.
    """
    info, pieces = self.shapes[name], self.pieces[name]
    if info.dtype == bundle_index.UNSUPPORTED:
      known = ", ".join(map(str, bundle_index.DTYPES.values()))
      raise UserError(
        f"{pieces[0].path}: expected {name!r} to have one of the dtypes {known}"
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
    raise UserError(f"{piece.path}: truncated since it was opened")
  if masked_crc32c(data) != piece.checksum:
    raise UserError(
      f"{piece.path}: wrong checksum of {name!r}; the file is damaged, or the"
      " index belongs to another checkpoint"
    )
  if dtype == np.bool_ and data.max(initial=0) > 1:
    raise UserError(f"{piece.path}: {name!r} has a boolean that is not 0 or 1")
  return data.view(dtype).reshape(piece.shape)

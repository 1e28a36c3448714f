"""The interface of checkpoint readers: named tensors, read one at a time."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np


class TensorInfo(NamedTuple):
  """The shape and dtype of a tensor, known before its bytes are read.

  A scalar has the shape (); bfloat16 is that of `ml_dtypes`.
  """

  shape: tuple[int, ...]
  dtype: np.dtype


class TensorReader(Protocol):
  """An open checkpoint, whose tensors are read on request.

  A reader does not keep tensors in memory.
  """

  @property
  def shapes(self) -> Mapping[str, TensorInfo]:
    """The shape and dtype of each tensor, by its name in the file."""

  def read(self, name: str) -> np.ndarray:
    """Reads a tensor into a new array.

    Raises:
      KeyError: there is no such tensor.
      UserError: the file is damaged, or the dtype is not supported.
    """

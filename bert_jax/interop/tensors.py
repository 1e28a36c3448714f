"""A checkpoint as its readers give it: named tensors, read one at a time."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np


class TensorInfo(NamedTuple):
  """What a checkpoint says about one tensor, before its bytes are read.

  Attributes:
    shape: the lengths of its axes; () is a scalar.
    dtype: the type of its elements, bfloat16 as `ml_dtypes` has it.
  """

  shape: tuple[int, ...]
  dtype: np.dtype


class Tensors(Protocol):
  """An open checkpoint: what is in it, and each tensor when asked for.

  A reader keeps no tensor: at any time the one just read is the memory taken.
  """

  @property
  def shapes(self) -> Mapping[str, TensorInfo]:
    """Every tensor by its name in the file."""

  def read(self, name: str) -> np.ndarray:
    """The tensor of that name, a fresh array.

    Raises:
      KeyError: no such tensor.
      UserError: the file is damaged there, or its type is not one we read.
    """

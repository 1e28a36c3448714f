"""Reads and writes the safetensors files of a Hugging Face folder.

The format is documented at https://huggingface.co/docs/safetensors. The
`safetensors` library checks each header before it is used here. Tensors are
copied to memory one at a time: the pages of a memory-mapped file would be
resident in addition to the arrays made from them.
"""

import collections
import dataclasses
import json
import math
import os
import pathlib
import re
import stat
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from bert_jax.interop import pickles
from bert_jax.interop.tensor_reader import TensorInfo
from bert_jax.settings import UserError
from bert_jax.text import files

NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"

# The format allows 100 MB; the header of the largest BERT is 0.1 MB.
_MAX_HEADER_BYTES = 25_000_000
_MAX_AXES = 32
_MAX_ELEMENTS = 2**48
# XLA uses arrays of this alignment without a copy, on a CPU.
_ALIGNMENT = 64
# The name of a file, not a path.
_SHARD = re.compile(r"[\w. -]+\.safetensors")
_DTYPES = {
  "F64": np.dtype(np.float64),
  "F32": np.dtype(np.float32),
  "F16": np.dtype(np.float16),
  "BF16": np.dtype(ml_dtypes.bfloat16),
  **{f"I{n}": np.dtype(f"int{n}") for n in (64, 32, 16, 8)},
  **{f"U{n}": np.dtype(f"uint{n}") for n in (64, 32, 16, 8)},
  "BOOL": np.dtype(np.bool_),
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}


@dataclasses.dataclass(frozen=True)
class _Place:
  """The bytes of a tensor in a file, and the format's name of their dtype."""

  path: pathlib.Path
  code: str
  offset: int
  size: int


@dataclasses.dataclass(frozen=True)
class SafetensorsFolder:
  """The weights of a folder, a `TensorReader`; see `open_folder`.

  Attributes:
    shapes: the shape and dtype of each tensor by its name, over all files. The
      dtype of an unsupported tensor, such as a float8, is `np.void`.
  """

  shapes: Mapping[str, TensorInfo]
  _places: Mapping[str, _Place]

  def read(self, name: str) -> np.ndarray:
    """Reads a tensor into a new array, aligned to 64 bytes.

    Raises:
      KeyError: there is no such tensor.
      UserError: its dtype is not supported, or its file cannot be read or is
        truncated.
    """
    info, place = self.shapes[name], self._places[name]
    if place.code not in _DTYPES:
      raise UserError(
        f"{place.path}: {name!r} has the dtype {place.code}; expected one of"
        f" {', '.join(_DTYPES)}"
      )
    memory = np.empty(place.size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    memory = memory[start : start + place.size]
    try:
      with place.path.open("rb") as file:
        file.seek(place.offset)
        count = file.readinto(memory)
    except OSError as error:
      raise UserError(f"{place.path}: {_reason(error)}") from error
    if count != place.size:
      raise UserError(f"{place.path}: truncated in the middle of {name!r}")
    if place.code == "BOOL":
      # A byte that is neither 0 nor 1 is no NumPy bool.
      np.not_equal(memory, 0, out=memory.view(np.bool_))
    return memory.view(info.dtype).reshape(info.shape)


def open_folder(folder: pathlib.Path) -> SafetensorsFolder:
  """Opens the weights of a Hugging Face folder; reads only headers.

  Args:
    folder: contains `model.safetensors`, or the shards that its
      `model.safetensors.index.json` lists. The index names files in this
      folder, not paths. Files may be symbolic links, as in the cache of
      `huggingface_hub`. Pickles in the folder are ignored.

  Raises:
    UserError: there are no such files, with the command that converts pickles;
      a file is damaged; or the index does not match the shards.
  """
  # A dangling link is an error, and not the absence of the file.
  if os.path.lexists(folder / NAME):
    paths, listed = [folder / NAME], {}
  elif os.path.lexists(folder / INDEX_NAME):
    listed = _read_index(folder / INDEX_NAME)
    paths = sorted({folder / shard for shard in listed.values()})
  else:
    raise UserError(_without_weights(folder))
  opened = _opened(paths)
  places = opened._places
  for name, shard in listed.items():
    if name not in places or places[name].path.name != shard:
      raise UserError(f"{folder / INDEX_NAME}: {name!r:.80} is not in {shard}")
  return opened


def open_file(path: pathlib.Path) -> SafetensorsFolder:
  """Opens a single file; reads only its header.

  Raises:
    UserError: there is no such file, or it is damaged.
  """
  return _opened([path])


def _opened(paths: Sequence[pathlib.Path]) -> SafetensorsFolder:
  shapes: dict[str, TensorInfo] = {}
  places: dict[str, _Place] = {}
  for path in paths:
    for name, (info, place) in _read_header(path).items():
      if name in places:
        raise UserError(
          f"{path}: {name!r:.80} is also in {places[name].path.name}"
        )
      shapes[name], places[name] = info, place
  return SafetensorsFolder(shapes, places)


def write_folder(
  folder: pathlib.Path, tensors: Mapping[str, np.ndarray], name: str = NAME
) -> None:
  """Writes one file of weights atomically.

  At most one tensor is copied at a time, if it is not a contiguous array in
  host memory. A lazy mapping computes each tensor twice, first for its shape.

  Args:
    folder: created if it does not exist.
    tensors: NumPy or JAX arrays by name.
    name: of the file.

  Raises:
    ValueError: the format does not have a dtype.
    OSError: the file cannot be written.
  """
  infos = {
    name: TensorInfo(tuple(tensor.shape), np.dtype(tensor.dtype))
    for name, tensor in tensors.items()
  }
  # The widest dtype first, as in the library, so that tensors are aligned.
  names = sorted(infos, key=lambda name: (-infos[name].dtype.itemsize, name))
  header = _header(infos, names)
  folder.mkdir(parents=True, exist_ok=True)
  partial = folder / (name + ".partial")
  try:
    with partial.open("wb") as file:
      file.write(len(header).to_bytes(8, "little") + header)
      for key in names:
        # `tofile` would not report a full disk. A name for the copy would keep
        # it in memory while the next one is made.
        file.write(
          np.ascontiguousarray(tensors[key]).reshape(-1).view(np.uint8)
        )
      file.flush()
      os.fsync(file.fileno())
    _read_header(partial)
    partial.replace(folder / name)
  finally:
    partial.unlink(missing_ok=True)


def _without_weights(folder: pathlib.Path) -> str:
  try:
    names = sorted(path.name for path in folder.iterdir())
  except OSError as error:
    return f"{folder}: {_reason(error)}"
  expected = f"{folder}: expected {NAME} or {INDEX_NAME}; "
  advice = pickles.advice(names, str(folder), str(folder))
  return expected + (advice or f"found {', '.join(names[:8]) or 'nothing'}")


def _reason(error: Exception) -> str:
  return getattr(error, "strerror", None) or str(error)


def _header(infos: Mapping[str, TensorInfo], names: list[str]) -> bytes:
  # Transformers requires the format.
  entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
  offset = 0
  for name in names:
    shape, dtype = infos[name]
    if dtype not in _CODES:
      raise ValueError(f"{name!r}: the dtype {dtype} is not supported")
    end = offset + math.prod(shape) * dtype.itemsize
    entries[name] = {
      "dtype": _CODES[dtype],
      "shape": shape,
      "data_offsets": (offset, end),
    }
    offset = end
  text = json.dumps(entries, ensure_ascii=False, separators=(",", ":"))
  header = text.encode()
  return header + b" " * (-len(header) % 8)


def _read_header(path: pathlib.Path) -> dict[str, tuple[TensorInfo, _Place]]:
  """The tensors of a safetensors file and their bytes."""
  length = int.from_bytes(_read(path, 0, 8), "little")
  if length > _MAX_HEADER_BYTES:
    raise UserError(
      f"{path}: damaged safetensors file (a header of {length} bytes)"
    )
  header = _read(path, 8, length)
  try:
    # Opening checks that dtypes and offsets match the shapes and the file.
    with safetensors.safe_open(path, framework="np"):
      pass
  except OSError as error:
    raise UserError(f"{path}: {_reason(error)}") from error
  except safetensors.SafetensorError as error:
    raise UserError(f"{path}: damaged safetensors file ({error})") from error
  found = {}
  for name, entry in _parse_header(path, header).items():
    shape, code = tuple(entry["shape"]), entry["dtype"]
    # The library accepts (0, 2**62), which NumPy does not.
    if len(shape) > _MAX_AXES or (
      math.prod(max(size, 1) for size in shape) > _MAX_ELEMENTS
    ):
      raise UserError(f"{path}: {name!r:.80} has the shape {list(shape)!s:.80}")
    start, end = entry["data_offsets"]
    found[name] = (
      TensorInfo(shape, _DTYPES.get(code, np.dtype(np.void))),
      _Place(path, code, 8 + length + start, end - start),
    )
  return found


def _read_index(path: pathlib.Path) -> dict[str, str]:
  """The file name of the shard of each tensor."""
  listed = files.read_json(path).get("weight_map")
  if not isinstance(listed, dict) or not listed:
    raise UserError(f"{path}: expected a weight_map of tensors to files")
  for name, shard in listed.items():
    if not isinstance(shard, str) or not _SHARD.fullmatch(shard):
      raise UserError(
        f"{path}: {name!r:.80}: expected the name of a .safetensors file in"
        f" this folder, got {shard!r:.80}"
      )
  return listed


def _read(path: pathlib.Path, start: int, length: int) -> bytes:
  """At most `length` bytes of a file; refuses pipes, which would block."""
  try:
    if not stat.S_ISREG(path.stat().st_mode):
      raise UserError(f"{path}: not a regular file")
    with path.open("rb") as file:
      file.seek(start)
      return file.read(length)
  except OSError as error:
    raise UserError(f"{path}: {_reason(error)}") from error


def _parse_header(path: pathlib.Path, header: bytes) -> dict[str, Any]:
  """The entries of a header that was checked by the library."""

  def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # The library silently takes one of two entries with the same name.
    entries = dict(pairs)
    if len(entries) < len(pairs):
      counts = collections.Counter(name for name, _ in pairs)
      (twice, _), *_ = counts.most_common(1)
      raise UserError(f"{path}: duplicate entry {twice!r:.80}")
    return entries

  entries = json.loads(header, object_pairs_hook=once)
  entries.pop("__metadata__", None)
  return entries

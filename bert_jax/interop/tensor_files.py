"""Weights in a Hugging Face folder: safetensors files, read and written.

The format: https://huggingface.co/docs/safetensors. Each header is checked by
the `safetensors` library before it is used here. The tensors are then read one
at a time into memory of their own, since the pages of a mapped file would
count as resident beside the arrays made from them.
"""

import collections
import dataclasses
import json
import math
import os
import pathlib
import re
import stat
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from bert_jax.interop import pickles
from bert_jax.interop.tensors import TensorInfo
from bert_jax.settings import UserError
from bert_jax.text import files

NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"

# The format allows 100 MB; the header of the largest BERT is 0.1 MB.
_MAX_HEADER_BYTES = 25_000_000
_MAX_AXES = 32
_MAX_ELEMENTS = 2**48
# What XLA can take as it is, without a copy, on a CPU.
_ALIGNMENT = 64
# A name and no path, that can be opened and printed.
_SHARD = re.compile(r"[\w. -]+\.safetensors")
_DTYPES = {
  "F64": np.dtype(np.float64),
  "F32": np.dtype(np.float32),
  "F16": np.dtype(np.float16),
  "BF16": np.dtype(ml_dtypes.bfloat16),
  "I64": np.dtype(np.int64),
  "I32": np.dtype(np.int32),
  "I16": np.dtype(np.int16),
  "I8": np.dtype(np.int8),
  "U64": np.dtype(np.uint64),
  "U32": np.dtype(np.uint32),
  "U16": np.dtype(np.uint16),
  "U8": np.dtype(np.uint8),
  "BOOL": np.dtype(np.bool_),
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}


@dataclasses.dataclass(frozen=True)
class _Place:
  """Where a tensor's bytes are, and the format's name of their type."""

  path: pathlib.Path
  code: str
  offset: int
  size: int


@dataclasses.dataclass(frozen=True)
class SafetensorsFolder:
  """The weights of a folder, a `Tensors`; `open_folder` makes it.

  Attributes:
    shapes: every tensor of every file by its name. The dtype of a tensor that
      `read` refuses, such as a float8, is `np.void`.
  """

  shapes: Mapping[str, TensorInfo]
  _places: Mapping[str, _Place]

  def read(self, name: str) -> np.ndarray:
    """Reads one tensor into a fresh array, aligned to 64 bytes.

    Raises:
      KeyError: no such tensor.
      UserError: its type is not one we read, or its file cannot be read or
        has become shorter.
    """
    info, place = self.shapes[name], self._places[name]
    if place.code not in _DTYPES:
      raise UserError(
        f"{place.path}: {name!r} is of type {place.code}; expected one of"
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
      raise UserError(f"{place.path}: ends in the middle of {name!r}")
    if place.code == "BOOL":
      # A byte that is neither 0 nor 1 is no NumPy bool.
      np.not_equal(memory, 0, out=memory.view(np.bool_))
    return memory.view(info.dtype).reshape(info.shape)


def open_folder(folder: pathlib.Path) -> SafetensorsFolder:
  """Opens the weights of a Hugging Face folder; reads headers only.

  Args:
    folder: holds `model.safetensors`, or else the shards that its
      `model.safetensors.index.json` lists. Names in the index are names of
      files in this folder and not paths. A file may be a link, as all are in
      the cache of `huggingface_hub`. Pickles beside them are not looked at.

  Raises:
    UserError: there are no such files, for pickles with the way to convert
      them; or one of them is damaged, or the index does not fit the shards.
  """
  # A link to a file that is gone is a missing file, not a missing name.
  if os.path.lexists(folder / NAME):
    paths, listed = [folder / NAME], {}
  elif os.path.lexists(folder / INDEX_NAME):
    listed = _read_index(folder / INDEX_NAME)
    paths = sorted({folder / shard for shard in listed.values()})
  else:
    raise UserError(_without_weights(folder))
  shapes: dict[str, TensorInfo] = {}
  places: dict[str, _Place] = {}
  for path in paths:
    for name, (info, place) in _read_header(path).items():
      if name in places:
        raise UserError(
          f"{path}: {name!r:.80} is in {places[name].path.name} too"
        )
      shapes[name], places[name] = info, place
  for name, shard in listed.items():
    if name not in places or places[name].path.name != shard:
      raise UserError(f"{folder / INDEX_NAME}: {name!r:.80} is not in {shard}")
  return SafetensorsFolder(shapes, places)


def write_folder(
  folder: pathlib.Path, tensors: Mapping[str, np.ndarray]
) -> None:
  """Writes `model.safetensors`, which is there as a whole or not at all.

  Only one tensor at a time is held in a copy, if it is no contiguous array
  in host memory. A mapping that makes its tensors when they are asked for is
  asked for each twice, first for its shape.

  Args:
    folder: made if it is not there.
    tensors: NumPy or JAX arrays by name.

  Raises:
    ValueError: the format has no such type.
    OSError: the file cannot be written.
  """
  infos = {
    name: TensorInfo(tuple(tensor.shape), np.dtype(tensor.dtype))
    for name, tensor in tensors.items()
  }
  # The widest first, as the library has it, so that each is aligned.
  names = sorted(infos, key=lambda name: (-infos[name].dtype.itemsize, name))
  header = _header(infos, names)
  folder.mkdir(parents=True, exist_ok=True)
  partial = folder / (NAME + ".partial")
  try:
    with partial.open("wb") as file:
      file.write(len(header).to_bytes(8, "little") + header)
      for name in names:
        # Not tofile, whose error does not say that the disk is full.
        # No name for the copy, which would keep it while the next is made.
        file.write(
          np.ascontiguousarray(tensors[name]).reshape(-1).view(np.uint8)
        )
      file.flush()
      os.fsync(file.fileno())
    _read_header(partial)
    partial.replace(folder / NAME)
  finally:
    partial.unlink(missing_ok=True)


def _without_weights(folder: pathlib.Path) -> str:
  try:
    names = sorted(path.name for path in folder.iterdir())
  except OSError as error:
    return f"{folder}: {_reason(error)}"
  expected = f"{folder}: expected {NAME} or {INDEX_NAME}; "
  there = pickles.advice(names, str(folder), str(folder))
  return expected + (there or f"found {', '.join(names[:8]) or 'nothing'}")


def _reason(error: Exception) -> str:
  return getattr(error, "strerror", None) or str(error)


def _header(infos: Mapping[str, TensorInfo], names: list[str]) -> bytes:
  # Without its format Transformers refuses a file.
  entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
  offset = 0
  for name in names:
    shape, dtype = infos[name]
    if dtype not in _CODES:
      raise ValueError(f"{name!r} is of type {dtype}, which is not written")
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


def _read_header(
  path: pathlib.Path,
) -> dict[str, tuple[TensorInfo, _Place]]:
  """What is in a safetensors file, and where."""
  length = int.from_bytes(_read(path, 0, 8), "little")
  if length > _MAX_HEADER_BYTES:
    raise UserError(
      f"{path}: damaged safetensors file (a header of {length} bytes)"
    )
  header = _read(path, 8, length)
  try:
    # Opening checks that types and offsets fit the shapes and the file.
    with safetensors.safe_open(path, framework="np"):
      pass
  except OSError as error:
    raise UserError(f"{path}: {_reason(error)}") from error
  except safetensors.SafetensorError as error:
    raise UserError(f"{path}: damaged safetensors file ({error})") from error
  found = {}
  for name, entry in _parse_header(path, header).items():
    shape, code = tuple(entry["shape"]), entry["dtype"]
    # The library lets (0, 2**62) pass, which no array can have.
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
  """The name of the shard of each tensor."""
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
  """At most `length` bytes of a file; a pipe, which would block, is refused."""
  try:
    if not stat.S_ISREG(path.stat().st_mode):
      raise UserError(f"{path}: expected a file")
    with path.open("rb") as file:
      file.seek(start)
      return file.read(length)
  except OSError as error:
    raise UserError(f"{path}: {_reason(error)}") from error


def _parse_header(path: pathlib.Path, header: bytes) -> dict[str, Any]:
  """The entries of a header that the library has checked."""

  def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Of two entries of one name the library takes one, without a word.
    entries = dict(pairs)
    if len(entries) < len(pairs):
      counts = collections.Counter(name for name, _ in pairs)
      (twice, _), *_ = counts.most_common(1)
      raise UserError(f"{path}: {twice!r:.80} is there twice")
    return entries

  entries = json.loads(header, object_pairs_hook=once)
  entries.pop("__metadata__", None)
  return entries

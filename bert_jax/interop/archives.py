"""Unpacks the zip archive of a Google BERT release, trusting nothing in it."""

import contextlib
import io
import pathlib
import shutil
import stat
import struct
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence

from bert_jax.settings import UserError

CONFIG_NAME = "bert_config.json"
_MAX_ENTRIES = 1_000
_MAX_BYTES = 16 << 30  # BERT-large with Adam's slots has 4 GB
# Weights hardly compress; small archives, as of tests, may hold only zeros.
_MAX_RATIO = 100
_ALWAYS_ALLOWED_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 20
_PLAIN_KINDS = (0, stat.S_IFREG, stat.S_IFDIR)  # 0: made on no Unix
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1


@contextlib.contextmanager
def opened(archive: pathlib.Path) -> Iterator[pathlib.Path]:
  """Unpacks an archive for as long as the context lasts.

  Yields:
    What `extract` returns, in a temporary folder.

  Raises:
    UserError: see `extract`.
  """
  with tempfile.TemporaryDirectory(prefix="bert_jax-") as scratch:
    yield extract(archive, pathlib.Path(scratch) / "release")


def extract(archive: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
  """Unpacks an archive into a new folder.

  Args:
    archive: a `.zip`.
    folder: does not exist yet, but the folder that it will be in does.
      Nothing is written outside it, and unless all goes well nothing is left.

  Returns:
    The folder that holds `bert_config.json`: `folder`, or one in it.

  Raises:
    UserError: the archive is damaged or encrypted, unpacks to more than a
      release does, has other than plain files of plain names, or has no
      `bert_config.json`; or writing fails.
  """
  try:
    with _File(archive) as file, zipfile.ZipFile(file) as zipped:
      entries = zipped.infolist()
      _check(entries, pathlib.Path(archive).stat().st_size)
      release = _release_folder(entries)
      folder.mkdir()
      try:
        for entry in entries:
          _write(zipped, entry, folder)
      except BaseException:
        shutil.rmtree(folder)
        raise
  except OSError as error:
    where = error.filename or archive
    raise UserError(f"{where}: {error.strerror or error}") from None
  except (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    RuntimeError,  # zipfile's for what it cannot unpack
  ) as error:
    raise UserError(f"{archive}: {error}") from None
  return folder / release


class _File(io.FileIO):
  """A file that is never read in large portions.

  `zipfile` reads an archive's whole directory at once, and makes objects of it
  that are much larger.
  """

  def read(self, size: int = -1) -> bytes:
    if size > _CHUNK_BYTES:
      raise ValueError(f"its directory has {size} bytes; no release's has")
    return super().read(size)


def _check(entries: Sequence[zipfile.ZipInfo], archive_bytes: int) -> None:
  """Refuses entries that must not be unpacked, by what they say."""
  if len(entries) > _MAX_ENTRIES:
    raise ValueError(f"{len(entries)} files; expected at most {_MAX_ENTRIES}")
  seen = set()
  for entry in entries:
    if fault := _fault(entry):
      raise ValueError(f"{entry.orig_filename!r}: {fault}")
    # Names that some file systems take for the same.
    name = unicodedata.normalize("NFC", entry.filename).casefold()
    if name.rstrip("/") in seen:
      raise ValueError(f"{entry.filename!r} is there twice")
    seen.add(name.rstrip("/"))
  budget = min(_MAX_BYTES, _ALWAYS_ALLOWED_BYTES + _MAX_RATIO * archive_bytes)
  total = sum(entry.file_size for entry in entries)
  if total > budget:
    raise ValueError(
      f"unpacks to {total} bytes; expected at most {budget} of an archive of"
      f" {archive_bytes} bytes"
    )


def _fault(entry: zipfile.ZipInfo) -> str:
  """Why an entry must not be unpacked, or nothing."""
  name = entry.orig_filename  # zipfile cuts `filename` at a zero
  if not set(name.removesuffix("/").split("/")).isdisjoint(("", ".", "..")):
    return "a name that leads out of its folder"
  if "\\" in name or ":" in name or not name.isprintable():
    return "a name that is not plain"
  if stat.S_IFMT(entry.external_attr >> 16) not in _PLAIN_KINDS:
    return "a link or a special file; expected plain files"
  if entry.flag_bits & _ENCRYPTED:
    return "encrypted; unpack it by hand and give the folder"
  if entry.compress_type not in _METHODS:
    return f"compressed by method {entry.compress_type}; expected deflate"
  return ""


def _release_folder(
  entries: Sequence[zipfile.ZipInfo],
) -> pathlib.PurePosixPath:
  """The folder in the archive that holds the model's config."""
  paths = [pathlib.PurePosixPath(entry.filename) for entry in entries]
  found = [
    path.parent
    for path in paths
    if path.name == CONFIG_NAME and len(path.parts) <= 2
  ]
  if len(found) != 1:
    raise ValueError(
      f"{len(found)} times {CONFIG_NAME} at its top or in a folder there;"
      " expected once"
    )
  return found[0]


def _write(
  zipped: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: pathlib.Path
) -> None:
  """Unpacks one entry, if it has as many bytes as it says."""
  path = folder / entry.filename
  if entry.is_dir():
    path.mkdir(parents=True, exist_ok=True)
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  left = entry.file_size
  with zipped.open(entry) as source, path.open("xb") as target:
    while left >= 0 and (chunk := source.read(_CHUNK_BYTES)):
      left -= len(chunk)
      target.write(chunk)
  if left:
    raise ValueError(f"{entry.filename!r} is not as large as it says")

"""Extracts the zip archive of a Google BERT release, which is not trusted."""

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
_MAX_BYTES = 16 << 30  # BERT-large with the moments of Adam has 4 GB.
# Weights hardly compress, except zeros, which small archives may contain.
_MAX_RATIO = 100
_ALWAYS_ALLOWED_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 20
_PLAIN_KINDS = (0, stat.S_IFREG, stat.S_IFDIR)  # 0: not written on Unix.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1


@contextlib.contextmanager
def extracted(archive: pathlib.Path) -> Iterator[pathlib.Path]:
  """`extract` into a temporary folder for the time of the context."""
  with tempfile.TemporaryDirectory(prefix="bert_jax-") as scratch:
    yield extract(archive, pathlib.Path(scratch) / "release")


def extract(archive: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
  """Extracts an archive into a new folder.

  Args:
    archive: a `.zip` file.
    folder: does not exist yet, but its parent does. Nothing is written outside
      of it, and it is removed after an error.

  Returns:
    The folder that contains `bert_config.json`: `folder`, or one in it.

  Raises:
    UserError: the archive is damaged or encrypted, is larger than a release,
      contains links, special files or unsafe names, or has no
      `bert_config.json`; or writing fails.
  """
  try:
    with _File(archive) as file, zipfile.ZipFile(file) as zipped:
      entries = zipped.infolist()
      _check(entries, archive.stat().st_size)
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
    RuntimeError,  # zipfile raises it for unsupported entries.
  ) as error:
    raise UserError(f"{archive}: {error}") from None
  return folder / release


class _File(io.FileIO):
  """A file that refuses large reads.

  `zipfile` reads the whole directory of an archive at once, and its objects are
  much larger than the directory.
  """

  def read(self, size: int = -1) -> bytes:
    if size > _CHUNK_BYTES:
      raise ValueError(
        f"a directory of {size} bytes; expected at most {_CHUNK_BYTES}"
      )
    return super().read(size)


def _check(entries: Sequence[zipfile.ZipInfo], archive_bytes: int) -> None:
  """Refuses unsafe entries, by their metadata."""
  if len(entries) > _MAX_ENTRIES:
    raise ValueError(f"{len(entries)} files; expected at most {_MAX_ENTRIES}")
  seen = set()
  for entry in entries:
    if fault := _fault(entry):
      raise ValueError(f"{entry.orig_filename!r}: {fault}")
    # Some file systems do not distinguish case or Unicode normalization.
    name = unicodedata.normalize("NFC", entry.filename).casefold()
    if name.rstrip("/") in seen:
      raise ValueError(f"duplicate entry {entry.filename!r}")
    seen.add(name.rstrip("/"))
  budget = min(_MAX_BYTES, _ALWAYS_ALLOWED_BYTES + _MAX_RATIO * archive_bytes)
  total = sum(entry.file_size for entry in entries)
  if total > budget:
    raise ValueError(
      f"unpacks to {total} bytes; expected at most {budget} for an archive of"
      f" {archive_bytes} bytes"
    )


def _fault(entry: zipfile.ZipInfo) -> str:
  """The reason why an entry is unsafe; empty if it is not."""
  name = entry.orig_filename  # zipfile truncates `filename` at a zero byte.
  if not set(name.removesuffix("/").split("/")).isdisjoint(("", ".", "..")):
    return "the name leads out of the folder"
  if "\\" in name or ":" in name or not name.isprintable():
    return "the name has characters that are not allowed"
  if stat.S_IFMT(entry.external_attr >> 16) not in _PLAIN_KINDS:
    return "a link or a special file; expected regular files"
  if entry.flag_bits & _ENCRYPTED:
    return "encrypted; extract it yourself and name the folder"
  if entry.compress_type not in _METHODS:
    return f"compression method {entry.compress_type}; expected deflate"
  return ""


def _release_folder(
  entries: Sequence[zipfile.ZipInfo],
) -> pathlib.PurePosixPath:
  """The folder in the archive that contains the config of the model."""
  paths = (pathlib.PurePosixPath(entry.filename) for entry in entries)
  paths = [path for path in paths if path.name == CONFIG_NAME]
  found = [path.parent for path in paths if len(path.parts) <= 2]
  if len(found) != 1:
    raise ValueError(
      f"expected one {CONFIG_NAME}, in the archive or a folder of it; found"
      f" {len(found)}"
    )
  return found[0]


def _write(
  zipped: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: pathlib.Path
) -> None:
  """Extracts one entry, whose size must be as declared."""
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
    raise ValueError(f"{entry.filename!r} does not have its declared size")

"""Zip archives of releases: valid, corrupt and malicious."""

import pathlib
import random
import shutil
import stat
import struct
import tracemalloc
import zipfile

import pytest

from bert_jax.interop import archives
from bert_jax.settings import UserError
from tests.errors import user_error

CONFIG = archives.CONFIG_NAME
FILES = {
  CONFIG: b"{}",
  "vocab.txt": "[PAD]\n日本\n".encode(),
  "bert_model.ckpt.index": bytes(range(256)) * 20,
}


def write(path, files, method=zipfile.ZIP_DEFLATED):
  """A zip archive of files: paths, or ZipInfos, and contents."""
  with zipfile.ZipFile(path, "w", method) as zipped:
    for name, content in files:
      zipped.writestr(name, content)
  return path


def release(folder="", files=FILES):
  return [(folder + name, content) for name, content in files.items()]


def assert_refused(tmp_path, archive, message):
  """Expects a refusal that leaves no files."""
  before = sorted(tmp_path.rglob("*"))
  with user_error(message):
    archives.extract(archive, tmp_path / "out")
  assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("folder", ["", "uncased_L-12_H-768_A-12/"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_release_is_extracted(tmp_path, folder, method):
  archive = write(tmp_path / "x.zip", release(folder), method)
  found = archives.extract(archive, tmp_path / "out")
  assert found == tmp_path / "out" / folder
  assert {path.name: path.read_bytes() for path in found.iterdir()} == FILES


def test_archives_of_the_zip_command_and_of_macos(tmp_path):
  source = tmp_path / "source" / "bert"
  source.mkdir(parents=True)
  for name, content in FILES.items():
    (source / name).write_bytes(content)
  made = shutil.make_archive(str(tmp_path / "x"), "zip", source.parent, "bert")
  with zipfile.ZipFile(made, "a") as zipped:
    zipped.writestr("__MACOSX/bert/._bert_config.json", b"Mac OS X")
  with archives.extracted(pathlib.Path(made)) as found:
    assert (found / "vocab.txt").read_bytes() == FILES["vocab.txt"]


def test_the_temporary_folder_is_removed(tmp_path):
  archive = write(tmp_path / "x.zip", release("bert/"))
  with pytest.raises(KeyError), archives.extracted(archive) as found:
    assert (found / CONFIG).exists()
    raise KeyError("of the caller")
  assert not found.exists()


def test_an_existing_folder_is_unchanged(tmp_path):
  archive = write(tmp_path / "x.zip", release())
  (tmp_path / "out").mkdir()
  (tmp_path / "out" / "mine").write_text("kept")
  assert_refused(tmp_path, archive, "out: File exists")
  assert (tmp_path / "out" / "mine").read_text() == "kept"


@pytest.mark.parametrize(
  "name",
  [
    "../outside",
    "bert/../../outside",
    "..",
    "/tmp/bert_jax_outside",
    "//server/share",
    "bert//vocab.txt",
    "./vocab.txt",
    "C:outside",
    "C:\\outside",
    "..\\outside",
    "new\nline",
    "escape\x1b[2J",
    "right\u202eleft",
  ],
)
def test_unsafe_paths_are_refused(tmp_path, name):
  archive = write(tmp_path / "x.zip", [*release(), (name, b"x")])
  assert_refused(tmp_path, archive, "the name ")


def test_a_path_with_a_null_byte_is_refused(tmp_path):
  archive = write(tmp_path / "x.zip", [*release(), ("vocab_txt~evil", b"x")])
  archive.write_bytes(archive.read_bytes().replace(b"txt~evil", b"txt\0evil"))
  assert_refused(tmp_path, archive, "characters that are not allowed")


@pytest.mark.parametrize(
  "kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK]
)
def test_links_and_special_files_are_refused(tmp_path, kind):
  entry = zipfile.ZipInfo("link")
  entry.external_attr = (kind | 0o777) << 16
  archive = write(tmp_path / "x.zip", [*release(), (entry, b"/etc/passwd")])
  assert_refused(tmp_path, archive, "'link': a link or a special file")


@pytest.mark.parametrize(
  "name", ["vocab.txt", "VOCAB.TXT", "vocab.txt/", "straße", "vocab.txt/inner"]
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_paths_are_refused(tmp_path, name):
  files = [*release(), ("STRASSE", b""), (name, b"")]
  archive = write(tmp_path / "x.zip", files)
  assert_refused(tmp_path, archive, "duplicate entry|Not a directory|exists")


def test_paths_equal_after_unicode_normalization_are_refused(tmp_path):
  files = [*release(), ("\u00e9", b""), ("e\u0301", b"")]
  archive = write(tmp_path / "x.zip", files)
  assert_refused(tmp_path, archive, "duplicate entry")


def patched(archive, field, value, size=2):
  """Changes a field of the first entry of the central directory."""
  content = bytearray(archive.read_bytes())
  start = content.index(b"PK\1\2") + field
  content[start : start + size] = value.to_bytes(size, "little")
  archive.write_bytes(content)
  return archive


def test_encrypted_archives_are_refused(tmp_path):
  archive = write(tmp_path / "x.zip", release())
  assert_refused(tmp_path, patched(archive, 8, 1), "encrypted; extract it")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_methods_are_refused(tmp_path, method):
  archive = write(tmp_path / "x.zip", release(), method)
  assert_refused(tmp_path, archive, "compression method .*; expected deflate")


def test_a_zip_bomb_is_refused_before_extraction(tmp_path):
  zeros = bytes(100 << 20)
  archive = write(tmp_path / "x.zip", [*release(), ("zeros", zeros)])
  assert archive.stat().st_size < 1 << 18
  assert_refused(tmp_path, archive, "unpacks to 1048.* bytes; expected at most")


@pytest.mark.parametrize("size", [0, 1, 5_000, 5_119, 5_121, 1 << 31])
def test_wrong_uncompressed_sizes_are_refused(tmp_path, size):
  archive = write(tmp_path / "x.zip", release(files={CONFIG: bytes(5_120)}))
  patched(archive, 24, size, 4)
  assert_refused(tmp_path, archive, "Bad CRC-32|unpacks to|its declared size")


def test_overlapping_entries_are_refused(tmp_path):
  """Many entries of the same compressed bytes, as in Fifield's zip bombs."""
  archive = write(tmp_path / "x.zip", [*release(), ("a", bytes(1 << 20))])
  with zipfile.ZipFile(archive, "a") as zipped:
    first = zipped.getinfo("a")
    for number in range(90):
      again = zipfile.ZipInfo(f"b{number}")
      for name in ("header_offset", "CRC", "compress_size", "file_size"):
        setattr(again, name, getattr(first, name))
      again.compress_type = first.compress_type
      zipped.filelist.append(again)
      zipped._didModify = True
  assert_refused(tmp_path, archive, "unpacks to|differ|verlap")


def test_too_many_entries_are_refused(tmp_path):
  files = [*release(), *((f"{number}", b"") for number in range(1_000))]
  archive = write(tmp_path / "x.zip", files)
  assert_refused(tmp_path, archive, "1003 files; expected at most 1000")


def test_a_huge_central_directory_is_not_loaded(tmp_path):
  entry = struct.pack("<4s24xH16xs", b"PK\1\2", 1, b"a")
  entries = 200_000 * entry
  ending = struct.pack("<4s8xIIH", b"PK\5\6", len(entries), 0, 0)
  (tmp_path / "x.zip").write_bytes(entries + ending)
  tracemalloc.start()
  assert_refused(tmp_path, tmp_path / "x.zip", "a directory of 9400000 ")
  assert tracemalloc.get_traced_memory()[1] < 4 << 20
  tracemalloc.stop()


@pytest.mark.parametrize(
  "files, count",
  [
    ([("vocab.txt", b"")], 0),
    ([], 0),
    (release("a/b/"), 0),
    ([("my_bert_config.json", b"{}")], 0),
    (release("a/") + release("b/"), 2),
  ],
)
def test_archives_need_exactly_one_release(tmp_path, files, count):
  archive = write(tmp_path / "x.zip", files)
  assert_refused(tmp_path, archive, f"folder of it; found {count}")


def test_other_files_than_zip_archives_are_refused(tmp_path):
  assert_refused(tmp_path, tmp_path / "none.zip", "none.zip: No such file")
  assert_refused(tmp_path, tmp_path, "Is a directory")
  for content in (b"", b"PK\3\4", b"<html>" * 1000):
    (tmp_path / "x.zip").write_bytes(content)
    assert_refused(tmp_path, tmp_path / "x.zip", r"x\.zip: .*not a zip file")


def test_random_corruption_is_refused_or_harmless(tmp_path):
  archive = write(tmp_path / "x.zip", release("bert/"))
  whole, generator = archive.read_bytes(), random.Random(0)
  refused = 0
  for number in range(300):
    damaged = bytearray(whole)
    for _ in range(generator.randint(1, 3)):
      damaged[generator.randrange(len(damaged))] = generator.randrange(256)
    if number % 4 == 0:
      del damaged[generator.randrange(len(damaged)) :]
    archive.write_bytes(damaged)
    out = tmp_path / "out"
    try:
      found = archives.extract(archive, out)
      # Names have no checksum, contents do.
      contents = [path.read_bytes() for path in found.iterdir()]
      assert set(contents) <= {*FILES.values(), b""}
      shutil.rmtree(out)
    except UserError:
      refused += 1
    assert sorted(tmp_path.iterdir()) == [archive]
  assert 150 < refused < 300


def test_a_full_disk_is_a_user_error(tmp_path, monkeypatch):
  archive = write(tmp_path / "x.zip", release())

  def full(*_):
    raise OSError(28, "No space left on device", str(tmp_path / "out/vocab"))

  monkeypatch.setattr(archives, "_write", full)
  assert_refused(tmp_path, archive, "out/vocab: No space left on device")

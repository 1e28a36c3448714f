import random

import pytest

from benchmarks.cases import TINY, Case, Text

_WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
  """A corpus of documents of many lengths."""
  folder = tmp_path_factory.mktemp("speed")
  rng = random.Random(0)
  documents = (
    "\n".join(
      " ".join(rng.choices(_WORDS, k=12)) + "."
      for _ in range(rng.choice((1, 3, 12)))
    )
    for _ in range(150)
  )
  path = folder / "text.txt"
  path.write_text("\n\n".join(documents))
  return Text.prepare([str(path)], "blank_line", folder)


@pytest.fixture
def case():

  def make(kind, length, real):
    return Case(kind, length, rows=4, real=real, model=TINY)

  return make

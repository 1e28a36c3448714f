"""Pairs to learn writing from, made of the source of packages."""

import json

import pytest

from bert_jax.data.sources import installed_pairs
from tests.errors import user_error

MODULE = '''
class Box:
  @property
  def area(self):
    """The area of the `box` in *square* meters.

    Longer text.
    """
    # A comment.
    wide, high = self.size

    return wide * high + self.offset["of the box"]

def short():
  """Returns a number of things."""
  return 1

def wraps(first, second):
  """Joins two lines whose summary
  goes on here."""
  return [*first, *second, *first, *second, *first, *second, *first]

def nothing(first, second, third, fourth, fifth, sixth, seventh, eighth):
  """Does nothing at all here."""
  raise NotImplementedError("nothing is done by this function at all")
'''
FUNCTION = '''
def name_{0}({0}, other):
  """Returns the {0} of a {1} package."""
  found = [{0}.{1}, other.{0}, other["{1}"]]
  while {0}.{1} > len(found):
    found.append({0}.{1} + {2})
  return {0}.{1}, found
'''
WORDS = [
  "alpha",
  "beta",
  "gamma",
  "delta",
  "epsilon",
  "zeta",
  "eta",
  "theta",
  "iota",
  "kappa",
]


def test_functions_with_the_first_line_of_their_docstrings():
  (found,) = installed_pairs.functions(MODULE.encode())
  assert found.name == "area"
  assert found.summary == "The area of the box in square meters."
  assert found.code == (
    "def area(self):\n"
    "  # A comment.\n"
    "  wide, high = self.size\n"
    "\n"
    '  return wide * high + self.offset["of the box"]'
  )
  assert installed_pairs.functions(b'"""a"""\ndef (') == []


@pytest.fixture
def packages(tmp_path, monkeypatch):
  modules = []
  for number in range(20):
    source = "".join(
      FUNCTION.format(word, f"{word}{number}", WORDS[n - number % 10])
      for n, word in enumerate(WORDS)
    )
    # All packages have a copy of one function.
    source += FUNCTION.format("copy", "copy", "copies")
    path = tmp_path / f"{number}.py"
    path.write_text(source)
    modules.append((f"package{number}", path.name, str(path)))
  passages = [
    {
      "label": f"package{number}",
      "text": "\n\n".join(
        f"{word} is a {number} word, which {' '.join(WORDS[n:])} of"
        f" {word * 7}{number} follow; others {number * 7} do {word} not."
        for n, word in enumerate(WORDS)
      ),
    }
    for number in range(20)
  ]
  docs = installed_pairs.installed_docs
  monkeypatch.setattr(docs, "modules", lambda: modules)
  monkeypatch.setattr(docs, "open_source", lambda *_: passages)


def read(folder):
  return {
    split: [
      json.loads(line)
      for line in (folder / f"{split}.jsonl").read_text().splitlines()
    ]
    for split in ("train", "eval")
  }


@pytest.mark.parametrize("kind", installed_pairs.KINDS)
def test_splits_have_no_package_and_no_copy_in_common(packages, kind, tmp_path):
  counts = installed_pairs.write(tmp_path / "a", kind, mask="<mask>")
  found = read(tmp_path / "a")
  assert counts == {split: len(rows) for split, rows in found.items()}
  train, evaluation = (
    {row["package"] for row in rows} for rows in found.values()
  )
  assert len(train) == 18 and len(evaluation) == 2
  assert not train & evaluation
  assert counts["eval"] >= 10
  every = [row for rows in found.values() for row in rows]
  assert all(row["text"].strip() and row["target"].strip() for row in every)
  names = [row["name"] for row in every if "name" in row]
  assert not names or names.count("name_copy") == 1
  for row in every:
    if kind == "code_summary":
      assert row["target"] not in row["text"]
    if kind == "code_completion":
      assert row["text"].startswith("def name_") and "\n" not in row["target"]
    if kind == "infilling":
      assert row["text"].count("<mask>") == 1
      whole = row["text"].replace("<mask>", row["target"])
      assert whole.endswith(" not.")
  installed_pairs.write(tmp_path / "b", kind, mask="<mask>")
  assert read(tmp_path / "b") == found


def test_mistakes(packages, monkeypatch, tmp_path):
  with user_error("kind: unknown 'code'"):
    installed_pairs.write(tmp_path, "code")
  docs = installed_pairs.installed_docs
  monkeypatch.setattr(docs, "modules", list)
  with user_error("needs pairs of several packages"):
    installed_pairs.write(tmp_path, "code_summary")

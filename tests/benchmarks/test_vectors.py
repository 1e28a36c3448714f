"""Retrieval by width and precision, and the collection it is measured on."""

import numpy as np
import pytest

from benchmarks import vectors
from tests.errors import user_error

DOCUMENT = (
  "<doc>\n<docno>{0}</docno>\n<title>{1}</title>\n<text>{2}</text></doc>"
)
FILES = {
  "cran.all.1400.xml": "\n".join(
    [
      DOCUMENT.format(1, "wings\nin flow", "wings\nin flow . they lift"),
      DOCUMENT.format(2, "", ""),
      DOCUMENT.format(7, "heat", "heat . of plates"),
    ]
  ),
  "cran.qry.xml": "<top><num> 4</num>\n<title>\nwhat lifts .\n</title></top>"
  "<top><num> 9</num><title>hot plates</title></top>",
  "cranqrel.trec.txt": "1 0 1 1\n1 0 2 0\n2 0 7 3\n",
}


@pytest.fixture
def folder(tmp_path):
  for name, content in FILES.items():
    (tmp_path / name).write_text(content)
  return tmp_path


def test_questions_are_counted(folder):
  found = vectors.read(folder)
  assert found.titles == ["wings in flow", "", "heat"]
  assert found.texts[0] == "wings in flow . they lift"
  assert found.queries == ["what lifts .", "hot plates"]
  assert found.relevant == [{0}, {2}]
  assert vectors.tfidf(found) == pytest.approx(1)


def test_another_form_is_one_line(folder):
  (folder / "cranqrel.trec.txt").write_text("1 0 3 1\n")
  with user_error("expected QUERY 0 DOCUMENT GRADE, got '1 0 3 1'"):
    vectors.read(folder)
  (folder / "cran.qry.xml").unlink()
  with user_error("--data: .*cran.qry.xml"):
    vectors.read(folder)


def test_what_is_cut_or_rounded_ranks_otherwise():
  documents = np.array([[0.5, 2, 0], [2, 0.5, 0], [0.2, 0.1, 3]], "f4")
  queries = np.array([[1, 0.1, 0]], "f4")
  found = vectors.measure(queries, documents, [{1}], [1, 64])
  assert [*found] == ["3", "1"]
  assert found["3"]["float32"] == pytest.approx(1)
  # Of one dimension all are the same, and the first of them comes first.
  second = 1 / np.log2(3)
  assert found["1"]["float32"] == pytest.approx(second)
  # By signs the first two are equal, and both nearer than the third.
  assert found["3"]["binary"] == pytest.approx(second)
  assert found["3"]["binary, float32"] == pytest.approx(second)

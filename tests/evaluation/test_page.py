import numpy as np

from bert_jax.evaluation import page
from bert_jax.tasks.targets.view import Confusion, View
from tests.evaluation.reader import Reader

HOSTILE = [
  "<script>alert(1)</script>",
  '"><img src=x onerror=alert(2)>',
  "$\\frac{",
  "خدمة العملاء",
  "</table></body>",
]


def test_no_text_becomes_markup():
  counts = np.arange(25).reshape(5, 5)
  rows = {name: {"f1": 0.5} for name in HOSTILE}
  mistakes = [{name: name} for name in HOSTILE]
  source = page.render(
    HOSTILE[0],
    {HOSTILE[1]: HOSTILE[4]},
    {"accuracy": 0.5},
    {"accuracy_majority_baseline": 0.25},
    View({HOSTILE[4]: rows}, Confusion(HOSTILE, counts), mistakes),
    HOSTILE,
    b"PNG",
  )
  seen = Reader(source)
  assert seen.tags.count("table") == 4
  assert "script" not in seen.tags
  assert seen.tags.count("img") == 1
  assert "onerror" not in seen.attributes
  text = "".join(seen.words)
  assert all(text.count(name) >= 4 for name in HOSTILE)
  assert "0.25 (majority)" in text


def test_a_page_stays_readable_however_much_there_is():
  many = [f"label {i}" for i in range(page.LABELS + 1)]
  counts = np.zeros((len(many), len(many)), int)
  counts[3, 4], counts[7, 8] = 5, 9
  view = View({}, Confusion(many, counts), [{"text": "w" * 10_000}])
  source = page.render("t", {}, {}, {}, view, ["row"] * 1000)
  words = Reader(source).words
  assert len(source) < 20_000
  assert words.index("label 7") < words.index("label 3")
  assert "label 0" not in words
  assert "and 960 more" in words

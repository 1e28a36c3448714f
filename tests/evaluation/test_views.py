"""What there is to see, of answers made by hand."""

import numpy as np
import pytest
from bert_jax.evaluation.view import MISTAKES
from bert_jax.tasks.classification import Label
from bert_jax.tasks.common.extraction import Answer
from bert_jax.tasks.common.word_labels import Word
from bert_jax.tasks.dialogue import Frame
from bert_jax.tasks.multiple_choice import Choice
from bert_jax.tasks.regression import Value

from bert_jax.evaluation import measuring, views
from bert_jax.tasks import multi_label
from tests.evaluation.labelled import HEADS
from tests.tasks import cases


def see(name, answers, records, head=None):
  task = cases.predictor(name, head or HEADS.get(name)).task
  return views.view(
    measuring.Evaluation(task, None, records, answers, [], {}, {})
  )


def test_the_surest_wrong_labels_come_first():
  chances = [("yes", 0.6), ("no", 0.9), ("yes", 0.8)]
  answers = [
    [Label(label, p), Label("no" if label == "yes" else "yes", 1 - p)]
    for label, p in chances
  ]
  records = [{"text": str(i), "label": "no"} for i in range(3)]
  found = see("classification", answers, records)
  assert [row["text"] for row in found.mistakes] == ["2", "0"]
  assert found.mistakes[0]["predicted"] == "yes"
  assert found.mistakes[0]["probability of gold"] == pytest.approx(0.2)
  assert found.confusion.counts.tolist() == [[1, 2], [0, 0]]
  assert found.confusion.pairs() == [("no", "yes", 2)]
  assert found.tables["labels"]["no"]["recall"] == pytest.approx(1 / 3)


def test_labels_that_are_wrong_by_their_thresholds_are_seen():
  answers = [
    [
      multi_label.Label("list", a, a >= 0.3),
      multi_label.Label("name", b, b >= 0.7),
    ]
    for a, b in ((0.4, 0.9), (0.2, 0.1), (0.35, 0.6))
  ]
  records = [{"text": str(i), "labels": ["list"]} for i in range(3)]
  found = see("multi_label", answers, records)
  assert [row["text"] for row in found.mistakes] == ["0", "1"]
  assert found.mistakes[0]["predicted"] == "list 0.40, name 0.90"
  assert found.tables["labels"]["list"] == {
    "precision": 1,
    "recall": pytest.approx(2 / 3),
    "f1": pytest.approx(0.8),
    "support": 3,
    "threshold": 0.3,
  }


def test_the_largest_errors_come_first():
  records = [{"text": str(i), "label": i} for i in range(3)]
  answers = [[Value("value", v)] for v in (0.5, 4.0, 1.0)]
  found = see("regression", answers, records)
  assert [row["text"] for row in found.mistakes] == ["1", "2", "0"]
  assert found.mistakes[0]["value, predicted"] == 4.0
  assert found.tables["values"]["value"]["mae"] == pytest.approx(4.5 / 3)


def words(labels):
  return [Word("w", i, i + 1, label, 0.5) for i, label in enumerate(labels)]


def test_sentences_with_most_wrong_entities_come_first():
  records = [
    {"words": ["a", "b", "c"], "tags": ["B-LIST", "I-LIST", "O"]},
    {"words": ["d", "e", "f"], "tags": ["O", "O", "B-LIST"]},
    {"words": ["g"], "tags": ["O"]},
  ]
  tags = [["O", "O", "O"], ["B-LIST", "O", "O"], ["O"]]
  found = see("tagging", list(map(words, tags)), records)
  assert [row["wrong"] for row in found.mistakes] == [2, 1]
  assert found.mistakes[0]["missed"] == "LIST: f"
  assert found.mistakes[0]["wrongly found"] == "LIST: d"
  assert found.mistakes[1]["missed"] == "LIST: a b"
  assert found.tables["entities"]["LIST"]["support"] == 2
  assert found.confusion.counts.sum() == 7
  frames = [
    Frame("ask", 0.9, [], words(tags[0])),
    Frame("tell", 0.8, [], words(tags[1])),
    Frame("tell", 0.7, [], words(tags[2])),
  ]
  records = [{**record, "label": "ask"} for record in records]
  found = see("dialogue", frames, records)
  assert [row["text"] for row in found.mistakes] == ["d e f", "g", "a b c"]
  assert found.tables["intents"]["ask"]["recall"] == pytest.approx(1 / 3)


def test_the_surer_an_answer_and_the_less_it_has_of_gold_the_worse():
  given = [("array", 0.9), ("the list", 0.8), ("", 0.9), ("place", 0.2)]
  gold = [["array"], ["a list of it"], ["names"], ["sorts", "sorted"]]
  records = [
    {
      "question": str(i),
      "context": "c",
      "answers": [{"text": text, "start": 0} for text in texts],
    }
    for i, texts in enumerate(gold)
  ]
  answers = [[Answer(text, 0, 1, p)] for text, p in given]
  found = see("question_answering", answers, records)
  assert [row["question"] for row in found.mistakes] == ["2", "1", "3"]
  assert found.mistakes[0]["predicted"] == "(no answer)"
  assert found.mistakes[1]["F1"] == pytest.approx(0.5)
  assert found.mistakes[2]["gold"] == "sorts | sorted"


def test_of_a_long_context_what_is_around_the_answer_is_seen():
  context = "a " * 500 + "list" + " b" * 500
  record = {
    "question": "q",
    "context": context,
    "answers": [{"text": "list", "start": 1000}],
  }
  answers = [[Answer("b", 1010, 1011, 0.5)]]
  (found,) = see("question_answering", answers, [record]).mistakes
  assert " list " in found["context"]
  assert found["context"].startswith("…")
  assert found["context"].endswith("…")
  assert len(found["context"]) < 400
  short = {**record, "context": "the list", "answers": []}
  near = [[Answer("list", 4, 8, 0.5)]]
  (found,) = see("question_answering", near, [short]).mistakes
  assert found["context"] == "the list"


def test_wrong_choices_are_seen_beside_the_right_ones():
  choices = ["x", "y", "z"]
  answers = [
    [Choice(i, choices[i], p) for i, p in zip(order, (0.6, 0.3, 0.1))]
    for order in ((0, 1, 2), (2, 1, 0))
  ]
  records = [{"text": "t", "choices": choices, "label": "B"}] * 2
  found = see("multiple_choice", answers, records)
  assert [row["predicted"] for row in found.mistakes] == ["x", "z"]
  assert {row["gold"] for row in found.mistakes} == {"y"}


def test_pairs_out_of_place_are_seen():
  angles = [(0.0, 0.1), (1.5, -1.0), (3.0, 3.3)]
  answers = [
    np.array([[np.cos(x), np.sin(x)] for x in pair]) for pair in angles
  ]
  records = [{"text": f"t{i}", "pair": f"p{i}"} for i in range(3)]
  (found,) = see("embedding", answers, records).mistakes
  assert found["text"] == "t1"
  assert found["nearer"] == "p0"
  labelled = [{**r, "label": n} for r, n in zip(records, (0.5, 1, 0))]
  found = see("embedding", answers, labelled).mistakes
  assert found[0]["text"] == "t1"
  assert found[0]["cosine"] == pytest.approx(np.cos(2.5), abs=1e-5)


def test_only_the_worst_mistakes_are_seen():
  records = [{"text": "t", "label": "no"}] * (2 * MISTAKES)
  answers = [[Label("yes", 0.9), Label("no", 0.1)]] * len(records)
  assert len(see("classification", answers, records).mistakes) == MISTAKES

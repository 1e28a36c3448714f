"""What there is to see, of predictions made by hand."""

import numpy as np
import pytest

from bert_jax.tasks.targets.span import Candidate, Candidates
from bert_jax.tasks.targets.view import MISTAKES
from tests.evaluation import labelled
from tests.tasks import cases


def see(name, predictions, records):
  """The view of predictions by target, or of the only target's."""
  task = labelled.task(name)
  if not isinstance(predictions, dict):
    predictions = dict.fromkeys(task.targets, predictions)
  rows = [
    dict(zip(predictions, row))
    for row in zip(*predictions.values(), strict=True)
  ]
  return task.view(records, rows)


def test_the_surest_wrong_labels_come_first():
  answers = [np.array([1 - yes, yes]) for yes in (0.6, 0.1, 0.8)]
  records = [{"text": str(i), "label": "no"} for i in range(3)]
  found = see("classification", answers, records)
  assert [row["text"] for row in found.mistakes] == ["2", "0"]
  assert found.mistakes[0]["predicted"] == "yes"
  assert found.mistakes[0]["probability of gold"] == pytest.approx(0.2)
  assert found.confusion.counts.tolist() == [[1, 2], [0, 0]]
  assert found.confusion.pairs() == [("no", "yes", 2)]
  assert found.tables["labels"]["no"]["recall"] == pytest.approx(1 / 3)


def test_labels_that_are_wrong_by_their_thresholds_are_seen():
  answers = list(np.array([(0.4, 0.9), (0.2, 0.1), (0.35, 0.6)]))
  records = [{"text": str(i), "labels": ["list"]} for i in range(3)]
  found = see("multi_label", answers, records)
  assert [row["text"] for row in found.mistakes] == ["0", "1"]
  assert found.mistakes[0]["predicted"] == "name 0.90, list 0.40"
  assert found.tables["labels"]["list"] == {
    "precision": 1,
    "recall": pytest.approx(2 / 3),
    "f1": pytest.approx(0.8),
    "support": 3,
    "threshold": 0.3,
  }


def test_the_largest_errors_come_first():
  records = [{"text": str(i), "label": i} for i in range(3)]
  answers = [np.array([value]) for value in (0.5, 4.0, 1.0)]
  found = see("regression", answers, records)
  assert [row["text"] for row in found.mistakes] == ["1", "2", "0"]
  assert found.mistakes[0]["value, predicted"] == 4.0
  assert found.tables["values"]["value"]["mae"] == pytest.approx(4.5 / 3)


def tagged(tags):
  """Words of one character with these tags."""
  return cases.labelled([labelled.TAGS.index(tag) for tag in tags])


def test_sentences_with_most_wrong_entities_come_first():
  records = [
    {"words": ["a", "b", "c"], "tags": ["B-LIST", "I-LIST", "O"]},
    {"words": ["d", "e", "f"], "tags": ["O", "O", "B-LIST"]},
    {"words": ["g"], "tags": ["O"]},
  ]
  tags = [["O", "O", "O"], ["B-LIST", "O", "O"], ["O"]]
  found = see("tagging", list(map(tagged, tags)), records)
  assert [row["wrong"] for row in found.mistakes] == [2, 1]
  assert found.mistakes[0]["missed"] == "LIST: f"
  assert found.mistakes[0]["wrongly found"] == "LIST: d"
  assert found.mistakes[1]["missed"] == "LIST: a b"
  assert found.tables["entities"]["LIST"]["support"] == 2
  assert found.confusion.counts.sum() == 7
  intents = list(np.array([(0.9, 0.1), (0.2, 0.8), (0.3, 0.7)]))
  records = [{**record, "label": "ask"} for record in records]
  predictions = {"intent": intents, "slots": list(map(tagged, tags))}
  found = see("dialogue", predictions, records)
  assert [(row["target"], row["text"]) for row in found.mistakes] == [
    ("intent", "d e f"),
    ("intent", "g"),
    ("slots", "d e f"),
    ("slots", "a b c"),
  ]
  intents = found.tables["intent: labels"]
  assert intents["ask"]["recall"] == pytest.approx(1 / 3)


def answered(text, probability, start=0):
  """Candidates of which one text, or none, has this probability."""
  logit = np.log(probability)
  if not text:
    return Candidates([], 0.0, logit)
  end = start + len(text)
  return Candidates([Candidate(logit, text, start, end)], 0.0, logit - 9)


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
  answers = [answered(text, p) for text, p in given]
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
  answers = [answered("b", 0.5, 1010)]
  (found,) = see("question_answering", answers, [record]).mistakes
  assert " list " in found["context"]
  assert found["context"].startswith("…")
  assert found["context"].endswith("…")
  assert len(found["context"]) < 400
  short = {**record, "context": "the list", "answers": []}
  near = [answered("list", 0.5, 4)]
  (found,) = see("question_answering", near, [short]).mistakes
  assert found["context"] == "the list"


def test_wrong_choices_are_seen_beside_the_right_ones():
  choices = ["x", "y", "z"]
  answers = list(np.array([(0.6, 0.3, 0.1), (0.1, 0.3, 0.6)]))
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
  answers = [np.array([0.1, 0.9])] * len(records)
  assert len(see("classification", answers, records).mistakes) == MISTAKES

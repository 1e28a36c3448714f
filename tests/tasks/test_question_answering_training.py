"""The scores of what windows find, and a whole run."""

import json
import random

import numpy as np
import pytest
from bert_jax.tasks.common import extraction
from bert_jax.tasks.question_answering import Answer, Head

import bert_jax
from bert_jax.data.grouping import pad
from bert_jax.tasks import question_answering
from bert_jax.training.recipe import Recipe
from bert_jax.training.run import train_recipe
from tests import small
from tests.tasks import learnable
from tests.tasks.cases import ENCODER, LONG


def by_trying_all(examples, logits, context, longest):
  """As run_qa.py: the best span of all windows and the null score."""
  best, null = (-np.inf, ""), np.inf
  for example, (starts, ends) in zip(examples, np.moveaxis(logits, -1, 1)):
    targets = example.targets
    null = min(null, float(starts[0]) + float(ends[0]))
    places = np.flatnonzero(targets["in_context"])
    for i in places:
      for j in places[(places >= i) & (places < i + longest)]:
        text = context[targets["starts"][i] : targets["ends"][j]]
        best = max(best, (float(starts[i]) + float(ends[j]), text))
  return best[1], null - best[0]


@pytest.mark.parametrize("seed", range(3))
def test_answers_to_be_scored_are_those_of_trying_all_windows(seed):
  task = question_answering.make(ENCODER, small.tokenizer(), Head(stride=4))
  record = {"question": "a list", "context": LONG}
  examples = task.prepare(record)
  assert len(examples) > 2
  batch = pad(examples, task.axes)
  shape = (*batch.token_ids.shape, 2)
  logits = np.random.default_rng(seed).normal(0, 3, shape).astype(np.float32)
  options = {**task.scoring, "max_answer_length": 4, "no_answer": True}
  found = task.join(
    task.answer(logits, batch, [record] * len(examples), **options)
  )
  text, null_score = by_trying_all(examples, logits, LONG, 4)
  assert extraction.first_text(found) == text
  assert extraction.null_scores([found]) == [pytest.approx(null_score, 1e-5)]
  assert sum(answer.score for answer in found) <= 1
  by_threshold = {}
  for threshold in (null_score - 0.1, null_score + 0.1):
    head = Head(stride=4, null_answers=True, null_threshold=threshold)
    task = question_answering.make(ENCODER, small.tokenizer(), head)
    answered = task.answer(
      logits, batch, [record] * len(examples), max_answer_length=4
    )
    by_threshold[threshold] = task.join(answered)[0].text
  assert [not text for text in by_threshold.values()] == [True, False]


def found(text, score, null):
  answers = [Answer(text, 0, len(text), score), Answer("", 0, 0, null)]
  return sorted(answers, key=lambda answer: -answer.score)


RECORDS = [
  {"id": "a", "answers": [{"text": "the names", "start": 0}]},
  {"id": "b", "answers": []},
  {"id": "c", "answers": [{"text": "it", "start": 0}]},
  {"answers": []},
]
ANSWERS = [
  found("names", 0.2, 0.4),
  found("list", 0.1, 0.7),
  found("it sorts", 0.5, 0.01),
  found("place", 0.1, 0.5),
]


def test_scores_are_those_of_the_decided_answers():
  plain = question_answering.score(Head(), ANSWERS, RECORDS)
  assert plain["exact"] == 1 / 4
  assert plain["f1"] == pytest.approx((1 + 2 / 3) / 4)
  head = Head(null_answers=True)
  scores = question_answering.score(head, ANSWERS, RECORDS)
  assert scores["exact"] == 2 / 4
  assert scores["has_answer_f1"] == pytest.approx(2 / 3 / 2)
  assert scores["no_answer_f1"] == 1
  assert question_answering.predictions(head, ANSWERS, RECORDS) == {
    "a": "",
    "b": "",
    "c": "it sorts",
    "4": "",
  }
  assert question_answering.predictions(Head(), ANSWERS, RECORDS) == {
    "a": "names",
    "b": "list",
    "c": "it sorts",
    "4": "place",
  }


def test_the_threshold_is_tuned_where_there_are_questions_of_both_kinds():
  head = Head(null_answers=True)
  tuned = question_answering.tune(head, ANSWERS, RECORDS)
  assert np.log(0.4 / 0.2) < tuned.null_threshold < np.log(0.5 / 0.1)
  scores = question_answering.score(tuned, ANSWERS, RECORDS)
  assert scores["exact"] == 3 / 4
  assert scores["f1"] == scores["best_f1"]
  for chosen in ([0, 2], [1, 3]):
    one_kind = [[part[i] for i in chosen] for part in (ANSWERS, RECORDS)]
    assert question_answering.tune(head, *one_kind) == head


def test_a_context_without_any_answer_has_a_finite_null_score():
  null = [Answer("", 0, 0, 1.0)]
  (score,) = extraction.null_scores([null])
  assert 0 < score < np.inf
  head = Head(null_answers=True)
  assert question_answering.predictions(head, [null], [{"id": 7}]) == {"7": ""}


def test_baselines_say_that_there_is_no_answer():
  assert question_answering.baselines(RECORDS) == {
    "exact_majority_baseline": 1 / 2,
    "f1_majority_baseline": 1 / 2,
  }


def write_squad(path, count, seed):
  """Questions whose answer is the word after "in", if it is there."""
  rng = random.Random(seed)
  questions = []
  for number in range(count):
    length = rng.choice([8, 9, 45])  # The last takes several windows.
    words = rng.choices(["the", "array", "it", "sorts", "names"], k=length)
    answers = []
    if number % 3:
      place = rng.randrange(length)
      words[place] = "list"
      start = len(" ".join([*words[:place], ""]))
      answers = [{"text": "list", "answer_start": start}]
    qa = {"id": f"q{number}", "question": "a list", "answers": answers}
    questions.append({"context": " ".join(words), "qas": [qa]})
  path.write_text(json.dumps({"data": [{"paragraphs": questions}]}))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A folder with data and a finished run, and what it measured."""
  folder = tmp_path_factory.mktemp("squad")
  small.tokenizer().save(folder / "vocabulary")
  write_squad(folder / "train.json", 90, 0)
  write_squad(folder / "eval.json", 30, 1)
  config = {
    "task": "question_answering",
    "epochs": 6,
    "batch_size": 8,
    "model": learnable.MODEL,
    "data": {
      "train": (str(folder / "train.json"),),
      "eval": (str(folder / "eval.json"),),
      "tokenizer": str(folder / "vocabulary"),
      "stride": 8,
      "length_buckets": (32,),
    },
    "optimizer": {"name": "adamw", "learning_rate": 1e-2},
    "evaluation": {"every": 0, "metric": "f1"},
  }
  return folder, train_recipe(Recipe.from_dict(config), folder / "run")


def test_a_run_learns_to_find_answers_and_where_there_is_none(run):
  _, values = run
  assert values["f1_majority_baseline"] == pytest.approx(1 / 3)
  assert values["f1"] > 0.9
  assert values["no_answer_f1"] > 0.9


def test_a_loaded_run_answers_as_it_was_measured(run):
  folder, values = run
  predictor = bert_jax.load(folder / "run")
  head = predictor.task.head
  assert head.null_answers
  assert head.null_threshold != 0
  assert (head.max_length, head.stride) == (32, 8)
  records = [
    {"id": qa["id"], "question": qa["question"], "context": entry["context"]}
    | {"answers": qa["answers"]}
    for entry in json.loads((folder / "eval.json").read_text())["data"][0][
      "paragraphs"
    ]
    for qa in entry["qas"]
  ]
  answers = predictor(records, **predictor.task.scoring)
  scores = predictor.task.score(head, answers, records)
  for name, score in scores.items():
    assert values[name] == pytest.approx(score, abs=1e-4)
  predictions = question_answering.predictions(head, answers, records)
  decided = predictor(records, align_to_words=False)
  assert [a.text for (a,) in decided] == [predictions[r["id"]] for r in records]
  assert "" in predictions.values()

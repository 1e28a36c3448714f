"""The metrics of the answers of chunks, and a whole run."""

import json
import random

import numpy as np
import pytest

import bert_jax
from bert_jax.data.grouping import pad
from bert_jax.tasks.inputs.question_context import QuestionContext
from bert_jax.tasks.targets.span import Candidate, Candidates, Span
from bert_jax.training.recipe import Recipe
from bert_jax.training.run import train_recipe
from tests import small
from tests.tasks import learnable
from tests.tasks.cases import LONG, task


def by_trying_all(examples, logits, context, longest):
  """As run_qa.py: the best span of all chunks and the null score."""
  best, null = (-np.inf, ""), np.inf
  for example, (starts, ends) in zip(examples, np.moveaxis(logits, -1, 1)):
    targets = example.targets
    starts_at, ends_at = targets["inputs/starts"], targets["inputs/ends"]
    null = min(null, float(starts[0]) + float(ends[0]))
    places = np.flatnonzero(targets["inputs/in_context"])
    for i in places:
      for j in places[(places >= i) & (places < i + longest)]:
        text = context[starts_at[i] : ends_at[j]]
        best = max(best, (float(starts[i]) + float(ends[j]), text))
  return best[1], null - best[0]


@pytest.mark.parametrize("seed", range(3))
def test_answers_to_be_evaluated_are_those_of_trying_all_chunks(seed):
  made = task("question_answering", QuestionContext(stride=4))
  (target,) = made.targets.values()
  record = {"question": "a list", "context": LONG}
  examples = made.preprocess(record)
  assert len(examples) > 2
  batch = pad(examples, made.axes)
  shape = (*batch.token_ids.shape, 2)
  logits = np.random.default_rng(seed).normal(0, 3, shape).astype(np.float32)
  outputs, records = {"classifier": logits}, [record] * len(examples)
  options = {**made.evaluation_options, "max_answer_length": 4}
  rows = made.predict(outputs, batch, records, **options)
  prediction = made.merge(record, rows)
  text, null_score = by_trying_all(examples, logits, LONG, 4)
  assert target.texts([prediction["answer"]]) == [text]
  candidates = prediction["answer"]
  best = max(candidate.logit for candidate in candidates.best)
  assert candidates.null_logit - best == pytest.approx(null_score, 1e-5)
  answers = made.decode(record, prediction, top_k=20, no_answer=True)
  assert sum(answer.score for answer in answers) <= 1
  by_threshold = {}
  for threshold in (null_score - 0.1, null_score + 0.1):
    decided = Span(null_answers=True, null_threshold=threshold)
    own = made.with_targets({"answer": decided})
    rows = own.predict(outputs, batch, records, max_answer_length=4)
    (answer,) = own.decode(record, own.merge(record, rows))
    by_threshold[threshold] = answer.text
  assert [not text for text in by_threshold.values()] == [True, False]


def found(text, score, null):
  """Candidates with one answer, from its probability and that of none."""
  return Candidates(
    [Candidate(float(np.log(score)), text, 0, len(text))],
    normalizer=0.0,
    null_logit=float(np.log(null)),
  )


def evaluate(target):
  return target.evaluate(RECORDS, FOUND)


def predictions(target, found, records):
  """What `predictions.json` holds."""
  return json.loads(target.files(records, found)["predictions.json"])


RECORDS = [
  {"id": "a", "answers": [{"text": "the names", "start": 0}]},
  {"id": "b", "answers": []},
  {"id": "c", "answers": [{"text": "it", "start": 0}]},
  {"answers": []},
]
FOUND = [
  found("names", 0.2, 0.4),
  found("list", 0.1, 0.7),
  found("it sorts", 0.5, 0.01),
  found("place", 0.1, 0.5),
]


def test_metrics_are_those_of_the_decided_answers():
  plain = evaluate(Span())
  assert plain["exact"] == 1 / 4
  assert plain["f1"] == pytest.approx((1 + 2 / 3) / 4)
  target = Span(null_answers=True)
  values = evaluate(target)
  assert values["exact"] == 2 / 4
  assert values["has_answer_f1"] == pytest.approx(2 / 3 / 2)
  assert values["no_answer_f1"] == 1
  assert predictions(target, FOUND, RECORDS) == {
    "a": "",
    "b": "",
    "c": "it sorts",
    "4": "",
  }
  assert predictions(Span(), FOUND, RECORDS) == {
    "a": "names",
    "b": "list",
    "c": "it sorts",
    "4": "place",
  }


def test_the_threshold_is_tuned_where_there_are_questions_of_both_kinds():
  target = Span(null_answers=True)
  tuned = target.tune(RECORDS, FOUND)
  assert np.log(0.4 / 0.2) < tuned.null_threshold < np.log(0.5 / 0.1)
  values = evaluate(tuned)
  assert values["exact"] == 3 / 4
  assert values["f1"] == values["best_f1"]
  for chosen in ([0, 2], [1, 3]):
    one_kind = [[part[i] for i in chosen] for part in (RECORDS, FOUND)]
    assert target.tune(*one_kind) == target
  assert Span().tune(RECORDS, FOUND) == Span()


def test_a_context_without_any_answer_has_a_finite_null_score():
  none = Candidates([], normalizer=0.0, null_logit=0.0)
  target = Span(null_answers=True)
  # The highest threshold keeps most answers: 1 above the greatest null score.
  tuned = target.tune(RECORDS[:2], [FOUND[0], none])
  assert 1 < tuned.null_threshold < np.inf
  assert predictions(target, [none], [{"id": 7}]) == {"7": ""}


def test_baselines_say_that_there_is_no_answer():
  assert Span().baselines(RECORDS) == {
    "exact_majority_baseline": 1 / 2,
    "f1_majority_baseline": 1 / 2,
  }


def write_squad(path, count, seed):
  """Questions whose answer is the word after "in", if it is there."""
  rng = random.Random(seed)
  questions = []
  for number in range(count):
    length = rng.choice([8, 9, 45])  # The last takes several chunks.
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
  model = bert_jax.load(folder / "run")
  (target,) = model.task.targets.values()
  assert target.null_answers
  assert target.null_threshold != 0
  inputs = model.task.inputs
  assert (inputs.max_length, inputs.stride) == (32, 8)
  records = [
    {"id": qa["id"], "question": qa["question"], "context": entry["context"]}
    | {"answers": qa["answers"]}
    for entry in json.loads((folder / "eval.json").read_text())["data"][0][
      "paragraphs"
    ]
    for qa in entry["qas"]
  ]
  options = model.task.evaluation_options
  _, found = model.predict(records, **options)
  for name, value in model.task.evaluate(records, found).items():
    assert values[name] == pytest.approx(value, abs=1e-4)
  texts = predictions(target, [row["answer"] for row in found], records)
  decided = model(records, align_to_words=False)
  assert [a.text for (a,) in decided] == [texts[r["id"]] for r in records]
  assert "" in texts.values()

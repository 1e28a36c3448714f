"""The metrics of the answers of chunks."""

import json

import numpy as np
import pytest

from bert_jax.data.grouping import pad
from bert_jax.tasks.inputs.question_context import QuestionContext
from bert_jax.tasks.targets.span import Candidate, Candidates, Span
from tests.tasks import cases, learnable
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


def test_questions_without_answers_are_learned_where_there_are_some(tmp_path):
  rows = learnable.records("question_answering")
  answered = [row for row in rows if row["answers"]]
  for given, expected in ((rows, True), (answered, False)):
    made, _ = cases.fit(tmp_path, "question_answering", given)
    assert made.targets["answer"].null_answers == expected

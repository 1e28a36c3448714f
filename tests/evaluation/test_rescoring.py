"""N-best lists: reading, tuning, word error rates."""

import json
import re

import numpy as np
import pytest

import bert_jax
from bert_jax.evaluation import rescoring
from bert_jax.evaluation.rescoring import Weights
from tests import small
from tests.commands import mistake, output, run
from tests.errors import user_error

WORDS = ["the", "array", "is", "a", "list", "of", "names", "in", "place"]


def nbest(scores, texts=("it", "a list"), reference="a list", **further):
  hypotheses = [
    {"text": text, "score": score} for text, score in zip(texts, scores)
  ]
  return {"hypotheses": hypotheses, "reference": reference, **further}


def write(path, *records):
  path.write_text("".join(json.dumps(x) + "\n" for x in records))
  return str(path)


def noisy(count, seed):
  """Lists of which a language model knows the best, and a recognizer less."""
  rng = np.random.default_rng(seed)
  records, model_scores = [], []
  for _ in range(count):
    gold = rng.choice(WORDS, 6)
    texts, scores, known = [], [], []
    for _ in range(8):
      kept = rng.random(6) > 0.25
      text = [w if k else rng.choice(WORDS) for w, k in zip(gold, kept)]
      wrong = sum(a != b for a, b in zip(gold, text))
      texts.append(" ".join(text))
      scores.append(float(rng.normal() - 0.5 * wrong))
      known.append(float(100 * (rng.normal() - wrong)))
    records.append(nbest(scores, texts, " ".join(gold)))
    model_scores.append(np.array(known))
  return records, model_scores


@pytest.mark.parametrize(
  ("reference", "hypothesis", "errors"),
  [  # From jiwer 4.0.0.
    ("the cat sat on the mat", "the cat sat mat on", 3),
    ("a b c d", "b c d e", 2),
    ("one two", "three", 2),
    ("x", "a b x c", 3),
    ("a b a b a", "b a b a b b", 2),
    ("", "", 0),
    ("", "a", 1),
  ],
)
def test_word_errors_are_those_of_jiwer(reference, hypothesis, errors):
  found = rescoring.word_errors(reference.split(), hypothesis.split())
  assert found == errors


def test_tuning_finds_what_a_fine_grid_finds_and_helps_on_other_lists(tmp_path):
  parts = []
  for seed in (0, 1):
    records, scores = noisy(30, seed)
    lists = rescoring.read(write(tmp_path / "lists.jsonl", *records))
    parts.append((lists, scores))
  (lists, scores), (others, other_scores) = parts

  def rate(weights, lists=lists, scores=scores):
    chosen = rescoring.best(lists, scores, weights)
    return rescoring.error_rate(lists, chosen)

  weights = rescoring.tune(lists, scores)
  assert weights == rescoring.tune(lists, scores)
  grid = [Weights(x, 0.0) for x in np.linspace(0, 0.1, 1001)]
  assert rate(weights) <= min(map(rate, grid)) < rate(Weights(0, 0))
  assert rate(weights, others, other_scores) < rate(
    Weights(0, 0), others, other_scores
  )
  oracle = rescoring.error_rate(lists, rescoring.oracle(lists))
  assert oracle <= rate(weights)


def test_a_word_weight_makes_up_for_scores_that_favour_short_texts(tmp_path):
  records = [nbest([-1.0, -2.0]), nbest([-1.0, -1.5])]
  lists = rescoring.read(write(tmp_path / "lists.jsonl", *records))
  weights = rescoring.tune(lists, [np.zeros(2), np.zeros(2)])
  assert weights.words > 1
  chosen = rescoring.best(lists, [np.zeros(2)] * 2, weights)
  assert rescoring.error_rate(lists, chosen) == 0


def test_the_score_of_the_recognizers_language_model_can_be_taken_out(tmp_path):
  record = nbest([-9.0, -8.0], reference="it")
  for item, score in zip(record["hypotheses"], (-5.0, -2.0)):
    item["lm_score"] = score
  lists = rescoring.read(write(tmp_path / "lists.jsonl", record, record))
  none = [np.zeros(2)] * 2
  assert rescoring.best(lists, none, Weights(0, 0)) == [1, 1]
  assert rescoring.totals(lists[0], none[0], Weights(0, 0, -1)).tolist() == [
    -4,
    -6,
  ]
  found = rescoring.tune(lists, [np.array([0.0, 0.0])] * 2)
  assert rescoring.best(lists, none, found) == [0, 0]


def test_equal_texts_are_scored_once_and_blank_ones_not(tmp_path):
  records = [nbest([0, 0], ("it", "")), nbest([0, 0], ("it", "a list"))]
  lists = rescoring.read(write(tmp_path / "lists.jsonl", *records))
  calls = []

  def model(texts):
    calls.append(texts)
    return [-float(len(text)) for text in texts]

  found = rescoring.score(lists, model)
  assert calls == [["it", "a list"]]
  assert [x.tolist() for x in found] == [[-2, 0], [-2, -6]]


@pytest.mark.parametrize(
  ("second", "message"),
  [
    ('{"hypotheses": [', r":2: not JSON"),
    ("[1]", r":2: expected an object with `hypotheses`"),
    ('{"hypotheses": []}', r":2: expected an object with `hypotheses`"),
    ('{"hypotheses": ["it"]}', r":2: hypotheses\[0\]: expected a `text`"),
    (
      '{"hypotheses": [{"text": "it", "score": 1}, {"text": "it"}]}',
      r":2: hypotheses\[1\]: expected a `score`, a finite number, got None",
    ),
    (
      '{"hypotheses": [{"text": "it", "score": NaN}]}',
      r":2: hypotheses\[0\]: expected a `score`, a finite number",
    ),
    (
      '{"hypotheses": [{"text": "it", "score": 1, "lm_score": "1"}]}',
      r":2: hypotheses\[0\]: expected a `lm_score`, a finite number, got '1'",
    ),
    (
      '{"hypotheses": [{"text": "it", "score": 1, "lm_score": 1}],'
      ' "reference": "it"}',
      r":1: no `lm_score`, which other lists have",
    ),
    (
      '{"hypotheses": [{"text": "it", "score": 1},'
      ' {"text": "a", "score": 1, "lm_score": 1}]}',
      r":2: hypotheses\[1\]: an `lm_score`, which the first has not",
    ),
    (
      '{"hypotheses": [{"text": "it", "score": 1}], "reference": 3}',
      r":2: reference: expected a text, got 3",
    ),
    (
      '{"hypotheses": [{"text": "it", "score": 1}]}',
      r":2: no `reference`, which other lists have",
    ),
  ],
)
def test_a_list_of_another_form_is_named_by_its_line(tmp_path, second, message):
  path = tmp_path / "lists.jsonl"
  path.write_text(json.dumps(nbest([1, 2])) + f"\n{second}\n")
  with user_error(message):
    rescoring.read(str(path))
  (tmp_path / "empty.jsonl").write_text("\n")
  with user_error("there are no n-best lists"):
    rescoring.read(str(tmp_path / "empty.jsonl"))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  folder = tmp_path_factory.mktemp("home")
  bert_jax.save(small.model(), folder / "model", format="bert_jax")
  (folder / "text.txt").write_text("it sorts names\nthe array is a list\n")
  write(folder / "tune.jsonl", nbest([-1, -2]), nbest([-1, -3], id=7))
  write(folder / "test.jsonl", nbest([-1, -2], id=5))
  return folder


def test_the_command_scores_a_text_and_a_file(home):
  flags = ("--model=model", "--input=text.txt")
  code, out, err = run("score", *flags, cwd=home)
  assert code == 0
  found = [json.loads(line) for line in out.splitlines()]
  assert [x["text"] for x in found] == ["it sorts names", "the array is a list"]
  expected = small.model().score([x["text"] for x in found])
  for line, score in zip(found, expected):
    assert line["answer"]["score"] == pytest.approx(score.score, abs=1e-3)
  total = sum(score.score for score in expected)
  summary = re.fullmatch(
    r"2 texts, 8 tokens, 8 words: score (.*), pseudo-perplexity .* per word\n",
    err,
  )
  assert float(summary[1]) == pytest.approx(total, abs=1e-2)
  out = output("score", "--model=model", "--text=it sorted", cwd=home)
  assert out.startswith("score -")
  assert [line.split()[1] for line in out.splitlines()[1:]] == [
    "it",
    "sort",
    "##ed",
  ]


def test_the_command_rescores_lists(home):
  flags = ("--model=model", "--nbest=test.jsonl", "--output=out.jsonl")
  more = ("--tune=tune.jsonl", "--ngram_text=text.txt")
  out = output("score", *flags, *more, cwd=home)
  for name in ("first pass", "model", "3-gram", "oracle"):
    assert name in out
  (line,) = map(json.loads, (home / "out.jsonl").read_text().splitlines())
  assert line["id"] == 5
  assert line["best"] in {"it", "a list"}
  first = line["hypotheses"][0]
  expected = small.model().score("it").score
  assert first["model_score"] == pytest.approx(expected, abs=1e-3)
  output("score", *flags, "--weights=0,2", cwd=home)
  (line,) = map(json.loads, (home / "out.jsonl").read_text().splitlines())
  assert line["best"] == "a list"
  assert line["hypotheses"][1]["total"] == 2


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ([], "give one of --text, --input and --nbest"),
    (["--nbest=test.jsonl"], "--nbest: give one of --tune and --weights"),
    (
      ["--nbest=test.jsonl", "--tune=./test.jsonl"],
      "--tune: name other lists than those of --nbest",
    ),
    (["--nbest=test.jsonl", "--weights=1"], "--weights: expected two numbers"),
    (["--nbest=test.jsonl", "--weights=1,0,-1"], "--nbest: no `lm_score`"),
    (["--text=it", "--tune=tune.jsonl"], "--tune goes with --nbest"),
    (["--text=it", "--pll_metric=l2r"], "pll_metric"),
    (["--input=none.txt"], "none.txt"),
  ],
)
def test_a_mistake_in_the_flags_is_one_line(home, flags, message):
  assert message in mistake("score", "--model=model", *flags, cwd=home)

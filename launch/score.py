"""Scores texts: how likely they are for a masked language model.

    bert-jax score --model MODEL --text "the array is sorted in place"

MODEL is anything that `bert_jax.load` accepts, with a masked-LM head; for
--combine see `bert-jax predict`. The score is the pseudo-log-likelihood
(Salazar et al. 2020): the sum of the log-probability of each token, given all
others. By default the later pieces of a token's word are hidden with it (Kauf
and Ivanova 2023); `--pll_metric=original` hides the token alone.

`--input FILE` reads the formats that `bert-jax predict` reads, and .txt with a
text per line. Each record is returned as a line of JSON with all its fields and
`answer`, printed or written to `--output FILE`; the last line, on stderr, is
the pseudo-perplexity of all.

`--nbest FILE` rescores the n-best lists of a speech recognizer, JSON lines
{"hypotheses": [{"text": "...", "score": -3.2}, ...], "reference": "..."}. The
total of a hypothesis is its score, plus weights times the model's score, the
number of words and, where the hypotheses have it, `lm_score`, the part of their
score that the recognizer's own language model gives. `--tune FILE` finds the
weights with the fewest word errors on other lists; `--weights=MODEL,WORDS` or
`--weights=MODEL,WORDS,LM` gives them. The word error rates before and after are
printed; `--ngram_text FILE` compares an n-gram model of this text (a sentence
per line). `--output FILE` gets all scores, and `best` of each list.
"""

import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bert_jax import settings
from bert_jax.data import records
from bert_jax.data.records import RecordsConfig
from bert_jax.data.sources import labelled
from bert_jax.data.sources.labelled import Record
from bert_jax.evaluation import rescoring
from bert_jax.evaluation.ngrams import NgramModel
from bert_jax.predictor import InputError, Predictor
from bert_jax.settings import UserError
from bert_jax.storage import folders, paths
from bert_jax.tasks.inputs import masked_copies
from bert_jax.tasks.targets.target import json_line
from bert_jax.tasks.targets.token_likelihood import Score, perplexity

from . import cli, data_flags, models, predict

# Texts whose masked copies are in memory at a time.
_CHUNK = 128
# Of the n-gram model.
_ORDER = 3


def define(values: cli.Values) -> None:
  """Defines the flags."""
  models.define(values)
  for name, meaning in (
    ("text", "One text."),
    ("input", "Files of texts or records."),
    ("output", "The file for the answers; by default they are printed."),
    ("nbest", "A file of n-best lists."),
    ("tune", "A file of other n-best lists, to tune the weights on."),
    ("ngram_text", "The text of an n-gram model to compare with --nbest."),
  ):
    values.define(name, meaning)
  values.define(
    "weights",
    "Of the model's score, of the words and of lm_score: MODEL,WORDS,LM.",
    "list",
  )
  define_options(values)
  data_flags.define(values)


def define_options(values: cli.Values) -> None:
  """Defines the flags that say how texts are scored."""
  values.define(
    "pll_metric",
    "Which tokens are hidden with the predicted one: the later ones of its"
    " word, or none.",
    "enum",
    masked_copies.WITHIN_WORD_L2R,
    enum_values=list(masked_copies.PLL_METRICS),
  )
  values.define(
    "stride",
    "Scores longer texts than the model takes in chunks that share this number"
    " of tokens; 0 refuses them.",
    "integer",
    0,
    lower_bound=0,
  )


def scorer(values: cli.Values) -> Predictor:
  """The scorer that the flags name."""
  return models.load(values).scorer(
    pll_metric=values.pll_metric, stride=values.stride
  )


def score(values: cli.Values) -> None:
  """Scores."""
  try:
    _score(values)
  except UserError as error:
    message = str(error).replace("with stride=", "with --stride=")
    raise UserError(data_flags.in_flags(message, "input")) from error


def _score(values: cli.Values) -> None:
  if [values.text, values.input, values.nbest].count(None) != 2:
    raise UserError("give one of --text, --input and --nbest")
  for name in ("tune", "weights", "ngram_text"):
    if values.nbest is None and getattr(values, name) is not None:
      raise UserError(f"--{name} goes with --nbest")
  if values.output and values.text is not None:
    raise UserError("--output goes with --input and --nbest")
  if values.text is not None:
    _score_one(values)
  elif values.nbest is not None:
    _rescore(values)
  else:
    _score_file(values)


def _score_file(values: cli.Values) -> None:
  given = {"eval": values.input, **data_flags.changes(values)}
  config = settings.from_dict(RecordsConfig, given, "config.data")
  # Before the model is loaded, which takes a while.
  records.find(config, "eval")
  model = scorer(values)
  totals = _Totals()
  found = predict.answers(model, config, {}, _CHUNK)
  predict.write(values.output, model, totals.counting(found))
  print(totals.line(), file=sys.stderr)


def _score_one(values: cli.Values) -> None:
  try:
    answer = scorer(values)(values.text)
  except InputError as error:
    raise UserError(error.reason) from error
  print(
    f"score {answer.score:.4f}, pseudo-perplexity"
    f" {answer.pseudo_perplexity:.4g}"
  )
  for token, value in zip(answer.tokens, answer.log_probabilities):
    print(f"{value:10.4f}  {token}")


def _rescore(values: cli.Values) -> None:
  if (values.tune is None) == (values.weights is None):
    raise UserError("--nbest: give one of --tune and --weights")
  if values.ngram_text is not None and values.tune is None:
    raise UserError("--ngram_text goes with --tune: its weights are others")
  given = None if values.weights is None else _weights(values.weights)
  parts = {"nbest": rescoring.read(values.nbest)}
  if values.tune is not None:
    if paths.as_path(values.tune) == paths.as_path(values.nbest):
      raise UserError("--tune: name other lists than those of --nbest")
    parts = {"tune": rescoring.read(values.tune, True), **parts}
  for name, lists in parts.items():
    if given and given.lm and lists[0].lm_scores is None:
      raise UserError(f"--{name}: no `lm_score`, which --weights needs")
  if len({lists[0].lm_scores is None for lists in parts.values()}) > 1:
    raise UserError("--tune, --nbest: only one of them has `lm_score`")
  language_models = {"model": _model_scores(values)}
  if values.ngram_text is not None:
    language_models[f"{_ORDER}-gram"] = _ngram_scores(values.ngram_text)
  scores, weights, chosen = {}, {}, {}
  for name, model in language_models.items():
    scores[name] = {
      part: rescoring.score(lists, model) for part, lists in parts.items()
    }
    weights[name] = given or rescoring.tune(parts["tune"], scores[name]["tune"])
    chosen[name] = {
      part: rescoring.best(lists, scores[name][part], weights[name])
      for part, lists in parts.items()
    }
  if values.output is not None:
    _write_lists(values.output, parts, scores["model"], weights["model"])
  if parts["nbest"][0].reference is None:
    del parts["nbest"]
  _print_rates(parts, chosen, weights)


def _weights(given: list[str]) -> rescoring.Weights:
  try:
    model, words, *lm = map(float, given)
    return rescoring.Weights(model, words, *lm)
  except (TypeError, ValueError):
    raise UserError(
      "--weights: expected two numbers, MODEL,WORDS, or three,"
      f" MODEL,WORDS,LM, got {','.join(given)}"
    ) from None


def _model_scores(values: cli.Values) -> Callable[[list[str]], list[float]]:
  model = models.load(values)
  options = {"pll_metric": values.pll_metric, "stride": values.stride}
  return lambda texts: [x.score for x in model.score(texts, **options)]


def _ngram_scores(path: str) -> Callable[[list[str]], list[float]]:
  lines = labelled.lines(path)
  model = NgramModel.train((line.split() for line in lines), _ORDER)
  return lambda texts: [model.score(text.split()) for text in texts]


def _write_lists(
  output: str,
  parts: Mapping[str, Sequence[rescoring.NBest]],
  scores: Mapping[str, Sequence[Any]],
  weights: rescoring.Weights,
) -> None:
  lines = [
    json_line(rescoring.to_line(nbest, own, weights)) + "\n"
    for nbest, own in zip(parts["nbest"], scores["nbest"])
  ]
  where = paths.as_path(output)
  with paths.staged_folder(where.parent) as folder:
    folders.write_text(folder / where.name, "".join(lines))


def _print_rates(
  parts: Mapping[str, Sequence[rescoring.NBest]],
  chosen: Mapping[str, Mapping[str, list[int]]],
  weights: Mapping[str, rescoring.Weights],
) -> None:
  """Prints word error rates: before, after, and of the best hypotheses."""
  import rich.console
  import rich.table

  first = {x: [int(n.scores.argmax()) for n in y] for x, y in parts.items()}
  oracle = {x: rescoring.oracle(y) for x, y in parts.items()}
  table = rich.table.Table(
    "word error rate", *(f"--{x}" for x in parts), "weights: model, words, lm"
  )
  rows = {"first pass": first, **chosen, "oracle": oracle}
  for name, places in rows.items():
    rates = (
      f"{rescoring.error_rate(lists, places[part]):.2%}"
      for part, lists in parts.items()
    )
    own = (f"{x:.4g}" for x in weights.get(name, ()))
    table.add_row(name, *rates, ", ".join(own))
  rich.console.Console().print(table)


class _Totals:
  """The sums over the texts of a file."""

  def __init__(self):
    self._score, self._texts, self._tokens, self._words = 0.0, 0, 0, 0

  def counting(
    self, answers: Iterator[tuple[Record, Any]]
  ) -> Iterator[tuple[Record, Score]]:
    """The same answers, which are added up on their way."""
    for record, answer in answers:
      self._score += answer.score
      self._texts += 1
      self._tokens += len(answer.tokens)
      self._words += len(record["text"].split())
      yield record, answer

  def line(self) -> str:
    """The sums as a line for people."""
    per_token = perplexity(self._score, self._tokens)
    per_word = perplexity(self._score, self._words)
    return (
      f"{self._texts:,} texts, {self._tokens:,} tokens, {self._words:,} words:"
      f" score {self._score:.4f}, pseudo-perplexity {per_token:.4g} per token,"
      f" {per_word:.4g} per word"
    )


main = functools.partial(cli.run, score, define)

if __name__ == "__main__":
  sys.exit(main())

"""Metrics of texts that were written, by the libraries that people quote.

ROUGE is rouge-score's, BLEU and chrF are sacrebleu's. They need the extra
`generation`.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bert_jax.settings import UserError

_ROUGE = ("rouge1", "rouge2", "rougeL")


def evaluate(gold: Sequence[str], written: Sequence[str]) -> dict[str, float]:
  """How like the gold texts the written ones are.

  Args:
    gold: the right text of each record.
    written: the text that the model wrote.

  Returns:
    `bleu` and `chrf`, of the corpus, from 0 to 100, with sacrebleu's defaults;
    `bleu_whitespace`, BLEU of tokens between white space and with 1 added to
    counts of n-grams, as CodeXGLUE has it for code; `rouge1`, `rouge2` and
    `rougeL`, from 0 to 1, the mean F1 over records, with Porter's stemmer (they
    know letters from a to z and digits only); `exact_match`, the share of texts
    that are the gold ones but for white space; `distinct1` and `distinct2`, the
    share of different words and pairs of words among all that was written (Li
    et al. 2016, arXiv:1510.03055).

  Raises:
    UserError: a library is not installed.
  """
  found = {
    name: metric.corpus_score(list(written), [list(gold)]).score
    for name, metric in _sacrebleu().items()
  }
  rouge = _rouge()
  each = [rouge.score(one, other) for one, other in zip(gold, written)]
  found |= {
    name: sum(scores[name].fmeasure for scores in each) / len(each)
    for name in _ROUGE
  }
  same = [one.split() == other.split() for one, other in zip(gold, written)]
  return {
    "bleu": found.pop("bleu"),
    **found,
    "exact_match": sum(same) / len(same),
    "distinct1": distinct(written, 1),
    "distinct2": distinct(written, 2),
  }


def distinct(texts: Sequence[str], size: int) -> float:
  """The share of different n-grams of words; 0 where there are none.

  >>> distinct(["I do", "I do not"], 2)
  0.6666666666666666
  """
  found = []
  for text in texts:
    words = text.split()
    found += itertools.pairwise(words) if size == 2 else zip(words)
  return len({*found}) / max(len(found), 1)


def each_chrf(gold: Sequence[str], written: Sequence[str]) -> list[float]:
  """The chrF of each text, from 0 to 100.

  Raises:
    UserError: sacrebleu is not installed.
  """
  metric = _sacrebleu()["chrf"]
  return [
    metric.sentence_score(one, [other]).score
    for one, other in zip(written, gold)
  ]


def signatures() -> dict[str, str]:
  """Sacrebleu's signatures of the metrics, by their names.

  Raises:
    UserError: it is not installed.
  """
  found = {}
  for name, metric in _sacrebleu().items():
    metric.corpus_score(["a"], [["a"]])  # It then knows the references.
    found[name] = str(metric.get_signature())
  return found


def check_installed() -> None:
  """Raises a `UserError` if a library is not installed."""
  _sacrebleu()
  _rouge()


def _imported(load: Callable[[], Any]) -> Any:
  try:
    return load()
  except ImportError as error:
    raise UserError(
      f"ROUGE and BLEU need a package that is not installed ({error.name}); run"
      " pip install 'bert_jax[generation]'"
    ) from error


def _sacrebleu() -> Mapping[str, Any]:
  def load() -> Mapping[str, Any]:
    from sacrebleu import metrics

    return {
      "bleu": metrics.BLEU(),
      "bleu_whitespace": metrics.BLEU(
        tokenize="none", force=True, smooth_method="add-k", smooth_value=1
      ),
      "chrf": metrics.CHRF(),
    }

  return _imported(load)


def _rouge() -> Any:
  def load() -> Any:
    from rouge_score import rouge_scorer

    return rouge_scorer.RougeScorer(list(_ROUGE), use_stemmer=True)

  return _imported(load)

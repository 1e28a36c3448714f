"""Scores of entities in tagged words, as conlleval and seqeval count them.

Tags are read in IOB1, IOB2, IOE, IOBES (BIOES), BILOU and BMES alike, and
leniently: an entity begins at any tag that does not go on with one of the
same label, so ill-formed sequences have entities too. This is what conlleval's
Python ports (https://pypi.org/project/conlleval) do, and seqeval's default
mode (https://github.com/chakki-works/seqeval), and they agree. Where others
differ from it:

  conlleval.pl (2004) knows no S, and does not begin an entity at a B after an
    E of the same label. On IOB1 and IOB2 it agrees.
  seqeval takes L, U and M for the first letters of labels. Here L is E, U is
    S and M is I, as its strict mode reads BILOU.
  A tag without a prefix, `PER`, is read as `I-PER`, as Transformers' pipeline
    does. conlleval counts no entity there (with `-r`, every word is one), and
    seqeval takes its first letter for the prefix.
"""

import collections
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bert_jax.settings import UserError
from bert_jax.tasks.scores import checks
from bert_jax.tasks.scores.counts import rates

_OUTSIDE = "O"
_PREFIXES = {
  "O": _OUTSIDE,
  "B": "B",
  "I": "I",
  "M": "I",
  "E": "E",
  "L": "E",
  "S": "S",
  "U": "S",
}


class Span(NamedTuple):
  """Words that belong together.

  Attributes:
    label: of the entity, without a prefix; empty for bare tags such as `B`.
    start: the index of its first word.
    end: one past the last.
  """

  label: str
  start: int
  end: int


def spans(tags: Sequence[str]) -> list[Span]:
  """The entities of a sentence, in order; they do not overlap."""
  found: list[Span] = []
  is_open = False
  for index, tag in enumerate(tags):
    prefix, label = _parse(tag)
    if prefix == _OUTSIDE:
      is_open = False
      continue
    if is_open and prefix not in "BS" and label == found[-1].label:
      found[-1] = found[-1]._replace(end=index + 1)
    else:
      found.append(Span(label, index, index + 1))
    is_open = prefix not in "ES"
  return found


def score(
  gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> dict[str, float]:
  """How well entities are found.

  Args:
    gold: the right tags of each sentence.
    predicted: the tags that it got, as many.

  Returns:
    `precision`, `recall` and `f1` of entities, each right if its label and
    both ends are; and `accuracy`, the share of words with the right tag. From
    0 to 1; what would divide by zero is 0.

  Raises:
    UserError: there are no words, or a sentence has not as many of both.
  """
  counts = _count(gold, predicted).values()
  found = rates(*map(sum, zip(*counts))) if counts else rates(0, 0, 0)
  right = [g == p for tags in zip(gold, predicted) for g, p in zip(*tags)]
  return {
    **{name: float(value) for name, value in found.items()},
    "accuracy": sum(right) / len(right),
  }


def per_type(
  gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> dict[str, dict[str, float]]:
  """For each label its `precision`, `recall`, `f1` and `support`.

  The support is the number of entities in the gold tags.

  Raises:
    UserError: as `score`.
  """
  return {
    label: {
      **{name: float(value) for name, value in rates(*counts).items()},
      "support": float(counts[2]),
    }
    for label, counts in sorted(_count(gold, predicted).items())
  }


def _parse(tag: str) -> tuple[str, str]:
  """The prefix as IOBES has it, and the label."""
  prefix, _, label = tag.partition("-")
  if prefix in _PREFIXES:
    return _PREFIXES[prefix], label
  return "I", tag


def _count(
  gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> Mapping[str, list[int]]:
  """For each label how many entities are right, were found, and are gold."""
  checks.same_length(gold, predicted, "tags")
  if not any(map(len, gold)):
    raise UserError("nothing to score: there are no words with gold tags")
  counts: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0, 0])
  for number, (right, got) in enumerate(zip(gold, predicted), 1):
    if len(right) != len(got):
      raise UserError(
        f"sentence {number}: expected {len(right)} tags, got {len(got)}"
      )
    right_spans, got_spans = spans(right), spans(got)
    for place, some in enumerate(
      (set(right_spans) & set(got_spans), got_spans, right_spans)
    ):
      for span in some:
        counts[span.label][place] += 1
  return counts

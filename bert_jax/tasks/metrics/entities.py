"""Metrics of entities in tagged words, as conlleval and seqeval count them.

Tags are read in IOB1, IOB2, IOE, IOBES (BIOES), BILOU and BMES alike, and
leniently: an entity begins at any tag that does not continue one of the
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

import numpy as np
from jaxtyping import Int

from bert_jax.settings import UserError
from bert_jax.tasks.metrics import checks
from bert_jax.tasks.metrics.counts import rates
from bert_jax.tasks.metrics.labels import accuracy

OUTSIDE = "O"
"""The tag of words outside all entities."""

_PREFIXES = {
  "O": OUTSIDE,
  "B": "B",
  "I": "I",
  "M": "I",
  "E": "E",
  "L": "E",
  "S": "S",
  "U": "S",
}

Tags = Sequence[Int[np.ndarray, "_"]]
"""The ids of the tags of each sentence."""


class Tag(NamedTuple):
  """A tag in parts.

  Attributes:
    prefix: as IOBES has it: `B`, `I`, `E`, `S`, or `O`.
    label: of the entity; empty for bare tags such as `B`.
  """

  prefix: str
  label: str


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


def in_scheme(name: str) -> bool:
  """Whether a tag is outside, or has a prefix, unlike a part of speech."""
  prefix, dash, _ = name.partition("-")
  return name == OUTSIDE or (bool(dash) and prefix in _PREFIXES)


def parse(names: Sequence[str]) -> list[Tag]:
  """The parts of each tag, by its id."""
  found = []
  for name in names:
    prefix, _, label = name.partition("-")
    is_known = prefix in _PREFIXES
    found.append(Tag(_PREFIXES[prefix], label) if is_known else Tag("I", name))
  return found


def spans(ids: Sequence[int], tags: Sequence[Tag]) -> list[Span]:
  """The entities of a sentence, in order; they do not overlap.

  Args:
    ids: of the tags of its words; negative ones are outside.
    tags: the parts of each tag, from `parse`.
  """
  found: list[Span] = []
  is_open = False
  for index, id in enumerate(ids):
    prefix, label = tags[id] if id >= 0 else Tag(OUTSIDE, "")
    if prefix == OUTSIDE:
      is_open = False
      continue
    if is_open and prefix not in "BS" and label == found[-1].label:
      found[-1] = found[-1]._replace(end=index + 1)
    else:
      found.append(Span(label, index, index + 1))
    is_open = prefix not in "ES"
  return found


def evaluate(
  gold: Tags, predicted: Tags, names: Sequence[str]
) -> dict[str, float]:
  """How well entities are found.

  Args:
    gold: the ids of the right tags of each sentence.
    predicted: the ids that it got, as many.
    names: of the tags.

  Returns:
    `precision`, `recall` and `f1` of entities, each right if its label and
    both ends are; and `accuracy`, the share of words with the right tag. From
    0 to 1; what would divide by zero is 0.

  Raises:
    UserError: there are no words, or the lengths of a sentence differ.
  """
  counts = _count(gold, predicted, names).values()
  found = rates(*map(sum, zip(*counts))) if counts else rates(0, 0, 0)
  right = np.concatenate([*gold]) == np.concatenate([*predicted])
  return {
    **{name: float(value) for name, value in found.items()},
    "accuracy": accuracy(right),
  }


def per_type(
  gold: Tags, predicted: Tags, names: Sequence[str]
) -> dict[str, dict[str, float]]:
  """For each label its `precision`, `recall`, `f1` and `support`.

  The support is the number of entities in the gold tags.

  Raises:
    UserError: as `evaluate`.
  """
  return {
    label: {
      **{name: float(value) for name, value in rates(*counts).items()},
      "support": float(counts[2]),
    }
    for label, counts in sorted(_count(gold, predicted, names).items())
  }


def _count(
  gold: Tags, predicted: Tags, names: Sequence[str]
) -> Mapping[str, list[int]]:
  """For each label how many entities are right, were found, and are gold."""
  checks.same_length(gold, predicted, "tags")
  if not any(map(len, gold)):
    raise UserError("nothing to evaluate: there are no words with gold tags")
  tags = parse(names)
  counts: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0, 0])
  for number, (right, got) in enumerate(zip(gold, predicted), 1):
    if len(right) != len(got):
      raise UserError(
        f"sentence {number}: expected {len(right)} tags, got {len(got)}"
      )
    right_spans = spans(np.asarray(right).tolist(), tags)
    got_spans = spans(np.asarray(got).tolist(), tags)
    for place, some in enumerate(
      (set(right_spans) & set(got_spans), got_spans, right_spans)
    ):
      for span in some:
        counts[span.label][place] += 1
  return counts

"""Entities of tags: round trips of every scheme, and ill-formed ones by hand.

The comparisons with seqeval and conlleval are in tests/parity.
"""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from bert_jax.tasks.metrics import entities
from tests.errors import user_error

# The prefixes of an entity's only, first, inner and last word.
SCHEMES = {
  "IOB2": "BBII",
  "IOE2": "EIIE",
  "IOBES": "SBIE",
  "BILOU": "UBIL",
  "BMES": "SBME",
}
# Labels, "" for none, and lengths of the parts of a sentence.
PARTS = st.lists(
  st.tuples(st.sampled_from(["PER", "LOC", "A-B", ""]), st.integers(1, 4)),
  max_size=8,
)


def tags_of(parts, scheme):
  only, first, inner, last = SCHEMES[scheme]
  tags = []
  for label, length in parts:
    if not label:
      tags += ["O"] * length
      continue
    prefixes = only if length == 1 else first + inner * (length - 2) + last
    tags += [f"{prefix}-{label}" for prefix in prefixes]
  return tags


def spans_of(parts):
  made, start = [], 0
  for label, length in parts:
    if label:
      made.append((label, start, start + length))
    start += length
  return made


def names_of(*groups):
  """The names of all tags, each once."""
  every = (tag for group in groups for tags in group for tag in tags)
  return tuple(dict.fromkeys(every))


def spans(tags):
  names = names_of([tags])
  ids = [names.index(tag) for tag in tags]
  return entities.spans(ids, entities.parse(names))


def measured(function, gold, predicted):
  """Calls a metric of ids with named tags."""
  names = names_of(gold, predicted)
  ids = [
    [np.array([names.index(tag) for tag in tags], int) for tags in group]
    for group in (gold, predicted)
  ]
  return function(*ids, names)


@pytest.mark.parametrize("scheme", SCHEMES)
@hypothesis.given(PARTS)
@hypothesis.settings(max_examples=60)
def test_every_scheme_gives_its_entities_back(scheme, parts):
  assert spans(tags_of(parts, scheme)) == spans_of(parts)


@hypothesis.given(PARTS)
@hypothesis.settings(max_examples=60)
def test_iob1_begins_with_b_only_after_its_like(parts):
  tags, before = [], ""
  for label, length in parts:
    prefixes = ("B" if label == before else "I") + "I" * (length - 1)
    tags += [f"{p}-{label}" if label else "O" for p in prefixes]
    before = label
  assert spans(tags) == spans_of(parts)


@pytest.mark.parametrize(
  ("tags", "expected"),
  [
    # What does not go on begins.
    ("I-A I-A O I-A", [("A", 0, 2), ("A", 3, 4)]),
    ("B-A I-B I-B", [("A", 0, 1), ("B", 1, 3)]),
    ("B-A E-B", [("A", 0, 1), ("B", 1, 2)]),
    ("E-A E-A I-A", [("A", 0, 1), ("A", 1, 2), ("A", 2, 3)]),
    ("S-A I-A E-A", [("A", 0, 1), ("A", 1, 3)]),
    ("B-A S-A B-A", [("A", 0, 1), ("A", 1, 2), ("A", 2, 3)]),
    ("O-A I-A", [("A", 1, 2)]),
    # Without labels, and without prefixes.
    ("B I O S E", [("", 0, 2), ("", 3, 4), ("", 4, 5)]),
    ("PER PER O ORG I-ORG", [("PER", 0, 2), ("ORG", 3, 5)]),
    ("-LRB- B- B-x-y", [("-LRB-", 0, 1), ("", 1, 2), ("x-y", 2, 3)]),
    ("", []),
  ],
)
def test_ill_formed_tags_have_entities_too(tags, expected):
  assert spans(tags.split()) == expected


def test_ids_below_zero_are_outside():
  tags = entities.parse(["B-A", "I-A"])
  assert entities.spans([0, -1, 1, 1], tags) == [("A", 0, 1), ("A", 2, 4)]


GOLD = [["B-PER", "I-PER", "O", "B-LOC"], ["B-PER", "B-PER"], []]
PREDICTED = [["B-PER", "I-PER", "B-LOC", "I-LOC"], ["B-PER", "I-PER"], []]


def test_metrics():
  scores = measured(entities.evaluate, GOLD, PREDICTED)
  assert scores == pytest.approx(
    {"precision": 1 / 3, "recall": 1 / 4, "f1": 2 / 7, "accuracy": 3 / 6}
  )
  assert measured(entities.per_type, GOLD, PREDICTED) == {
    "LOC": {"precision": 0, "recall": 0, "f1": 0, "support": 1},
    "PER": pytest.approx(
      {"precision": 1 / 2, "recall": 1 / 3, "f1": 2 / 5, "support": 3}
    ),
  }


def test_sentences_do_not_run_together():
  assert measured(entities.per_type, [["B-A"], ["I-A"]], [["O"], ["I-A"]]) == {
    "A": {"precision": 1, "recall": 1 / 2, "f1": pytest.approx(2 / 3)}
    | {"support": 2}
  }


def test_no_entities_at_all():
  assert measured(entities.evaluate, [["O", "O"]], [["O", "O"]]) == {
    "precision": 0,
    "recall": 0,
    "f1": 0,
    "accuracy": 1,
  }
  assert measured(entities.per_type, [["O"]], [["O"]]) == {}


@pytest.mark.parametrize(
  ("gold", "predicted", "message"),
  [
    ([], [], "nothing to evaluate"),
    ([[], []], [[], []], "no words with gold tags"),
    ([["O"]], [], "tags for 1 rows, got 0"),
    ([["O"], ["O", "O"]], [["O"], ["O"]], "sentence 2: expected 2 tags, got 1"),
  ],
)
def test_what_cannot_be_evaluated_is_an_error(gold, predicted, message):
  for function in (entities.evaluate, entities.per_type):
    with user_error(message):
      measured(function, gold, predicted)

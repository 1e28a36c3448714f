import itertools

import pytest

from bert_jax.text.tokenizer import Encoding, SpecialIds, truncate
from tests.errors import user_error

SPECIAL = SpecialIds(pad=0, unknown=1, cls=2, sep=3, mask=4)


def make(first, pair=None, separators=1):
  """An encoding of `first` and `pair` tokens, with ids from 10 and from 50."""
  ids = [2, *range(10, 10 + first), 3]
  segments = [0] * len(ids)
  if pair is not None:
    ids += [3] * (separators - 1) + [*range(50, 50 + pair), 3]
    segments += [1] * (len(ids) - len(segments))
  offsets = [(id, id + 1) if id > 3 else (0, 0) for id in ids]
  return Encoding(ids, segments, offsets, [0] * len(ids))


def longest_first(first, pair, room):
  """Takes one token at a time, as a person would."""
  odd_stays_first = first > pair
  while first + pair > room:
    if first > pair or (first == pair and not odd_stays_first):
      first -= 1
    else:
      pair -= 1
  return first, pair


@pytest.mark.parametrize("separators", [1, 2])
def test_pairs_equal_the_reference(separators):
  framing = 2 + separators
  for first, pair, room in itertools.product(range(7), range(7), range(15)):
    got = truncate(make(first, pair, separators), room + framing, SPECIAL)
    kept = longest_first(first, pair, room)
    assert got == make(*kept, separators), (first, pair, room)


def test_lengths_of_transformers():
  # As its fast tokenizers give them; the Python ones give (3, 2) for the first.
  for lengths, room, want in (
    ((6, 6), 5, (2, 3)),
    ((9, 4), 7, (4, 3)),
    ((4, 9), 7, (3, 4)),
    ((9, 2), 7, (5, 2)),
  ):
    assert truncate(make(*lengths), room + 3, SPECIAL) == make(*want)


def test_single_texts():
  for length, room in itertools.product(range(5), range(7)):
    got = truncate(make(length), room + 2, SPECIAL)
    assert got == make(min(length, room))


def test_the_mask_is_a_token_like_others():
  encoding = Encoding([2, 10, 4, 11, 3], [0] * 5, [(0, 0)] * 5, [0] * 5)
  assert truncate(encoding, 4, SPECIAL).ids == [2, 10, 4, 3]
  assert truncate(encoding, 3, SPECIAL).ids == [2, 10, 3]


@pytest.mark.parametrize(
  ("encoding", "length"), [(make(4), 1), (make(4, 4), 2), (make(4, 4, 2), 3)]
)
def test_no_room_for_the_special_tokens(encoding, length):
  with user_error(f"max_length: {length} has no room"):
    truncate(encoding, length, SPECIAL)

import itertools

import numpy as np
import pytest
import tokenizers
from bert_jax.tasks.common import rows

from bert_jax.settings import UserError
from bert_jax.tasks import question_answering, replaced_tokens
from tests import small
from tests.tasks.cases import ENCODER, LONG


def room(seen, piece, count):
  """How much a window sees around a piece: no end where the text ends."""
  before = piece - seen.start if seen.start else count
  after = seen.stop - 1 - piece if seen.stop < count else count
  return min(before, after)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10])
@pytest.mark.parametrize("overlap", [0, 1, 3, 5, 100])
def test_every_piece_belongs_to_the_window_that_sees_most_around_it(
  size, overlap
):
  for count in range(40):
    made = rows.windows(count, size, overlap)
    assert [i for window in made for i in window.own] == [*range(count)]
    assert all(len(window.seen) <= size for window in made)
    for one, following in itertools.pairwise(made):
      shared = one.seen.stop - following.seen.start
      assert shared == min(overlap, size // 2)
    for window in made:
      for piece in window.own:
        seen = [w.seen for w in made if piece in w.seen]
        assert window.seen in seen
        most = max(room(other, piece, count) for other in seen)
        # In the middle of an odd overlap either will do.
        assert room(window.seen, piece, count) >= most - 1


def test_a_text_that_fits_is_one_window():
  assert rows.windows(10, 10, 4) == [(range(10), range(10))]
  assert rows.windows(0, 10, 4) == [(range(0), range(0))]


def test_no_room_is_said():
  with pytest.raises(UserError, match="no room for text"):
    rows.windows(5, 0, 3)


@pytest.mark.parametrize("stride", [0, 4, 9])
def test_windows_over_a_context_are_those_of_the_tokenizers_library(
  stride, tmp_path
):
  small.tokenizer().save(tmp_path)
  reference = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
  reference.enable_truncation(28, stride=stride, strategy="only_second")
  question = "a list"
  first = reference.encode(question, LONG)
  expected = [first, *first.overflowing]
  examples = question_answering.prepare(
    small.tokenizer(), 28, stride, {"question": question, "context": LONG}
  )
  assert len(examples) == len(expected) > 2
  for example, peer in zip(examples, expected):
    assert example.token_ids.tolist() == peer.ids
    assert example.segment_ids.tolist() == peer.type_ids
    in_context = [sequence == 1 for sequence in peer.sequence_ids]
    assert example.targets["in_context"].tolist() == in_context
    spans = zip(example.targets["starts"], example.targets["ends"])
    assert [*map(tuple, spans)] == peer.offsets


def test_windows_of_one_text_answer_for_each_token_once():
  tokenizer = small.tokenizer()
  examples = replaced_tokens.prepare(
    tokenizer, ENCODER.max_positions, {"text": LONG}
  )
  assert len(examples) > 2
  spans, ids = [], []
  for example in examples:
    targets = example.targets
    assert example.token_ids[0] == tokenizer.special.cls
    assert example.token_ids[-1] == tokenizer.special.sep
    answered = targets["answered"]
    ids += example.token_ids[answered].tolist()
    spans += zip(targets["starts"][answered], targets["ends"][answered])
  encoding = tokenizer.encode(LONG)
  assert ids == encoding.ids[1:-1]
  np.testing.assert_array_equal(spans, encoding.offsets[1:-1])

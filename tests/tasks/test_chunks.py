import itertools

import numpy as np
import pytest
import tokenizers

from bert_jax.tasks.inputs import rows
from bert_jax.tasks.inputs.question_context import QuestionContext
from bert_jax.tasks.inputs.words import Tokens
from tests import small
from tests.errors import user_error
from tests.tasks.cases import ENCODER, LONG


def room(seen, piece, count):
  """How much a chunk has around a piece: no end where the text ends."""
  before = piece - seen.start if seen.start else count
  after = seen.stop - 1 - piece if seen.stop < count else count
  return min(before, after)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10])
@pytest.mark.parametrize("overlap", [0, 1, 3, 5, 100])
def test_every_piece_belongs_to_the_chunk_that_sees_most_around_it(
  size, overlap
):
  for count in range(40):
    made = rows.chunk_spans(count, size, overlap)
    assert [i for chunk in made for i in chunk.own] == [*range(count)]
    assert all(len(chunk.seen) <= size for chunk in made)
    for one, following in itertools.pairwise(made):
      shared = one.seen.stop - following.seen.start
      assert shared == min(overlap, size // 2)
    for chunk in made:
      for piece in chunk.own:
        seen = [w.seen for w in made if piece in w.seen]
        assert chunk.seen in seen
        most = max(room(other, piece, count) for other in seen)
        # In the middle of an odd overlap either will do.
        assert room(chunk.seen, piece, count) >= most - 1


def test_a_text_that_fits_is_one_chunk():
  assert rows.chunk_spans(10, 10, 4) == [(range(10), range(10))]
  assert rows.chunk_spans(0, 10, 4) == [(range(0), range(0))]


def test_no_room_is_said():
  with user_error("no room for text"):
    rows.chunk_spans(5, 0, 3)


@pytest.mark.parametrize("stride", [0, 4, 9])
def test_chunks_of_a_context_are_those_of_the_tokenizers_library(
  stride, tmp_path
):
  small.tokenizer().save(tmp_path)
  reference = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
  reference.enable_truncation(28, stride=stride, strategy="only_second")
  question = "a list"
  first = reference.encode(question, LONG)
  expected = [first, *first.overflowing]
  made = QuestionContext(max_length=28, stride=stride).rows(
    {"question": question, "context": LONG}, small.tokenizer(), ENCODER
  )
  assert len(made) == len(expected) > 2
  for example, peer in zip([row.example for row in made], expected):
    assert example.token_ids.tolist() == peer.ids
    assert example.segment_ids.tolist() == peer.type_ids
    in_context = [sequence == 1 for sequence in peer.sequence_ids]
    targets = example.targets
    assert targets["inputs/in_context"].tolist() == in_context
    spans = zip(targets["inputs/starts"], targets["inputs/ends"])
    assert [*map(tuple, spans)] == peer.offsets


def test_chunks_of_one_text_predict_each_token_once():
  tokenizer = small.tokenizer()
  made = Tokens().rows({"text": LONG}, tokenizer, ENCODER)
  assert len(made) > 2
  spans, ids = [], []
  for example in [row.example for row in made]:
    targets = example.targets
    assert example.token_ids[0] == tokenizer.special.cls
    assert example.token_ids[-1] == tokenizer.special.sep
    own = targets["inputs/own"]
    ids += example.token_ids[own].tolist()
    spans += zip(targets["inputs/starts"][own], targets["inputs/ends"][own])
  encoding = tokenizer.encode(LONG)
  assert ids == encoding.ids[1:-1]
  np.testing.assert_array_equal(spans, encoding.offsets[1:-1])

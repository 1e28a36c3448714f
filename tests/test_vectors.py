"""Vectors in fewer bits."""

import numpy as np
import pytest

from bert_jax import vectors
from tests.errors import user_error
from tests.tasks import cases

GIVEN = np.array([[-1.0, 0.0, 0.5], [1.0, 0.25, 0.0], [0.0, 1.0, -0.5]], "f4")


def test_256_steps_between_the_least_and_the_greatest_value():
  found = vectors.quantize(GIVEN, "uint8")
  assert found.dtype == np.uint8
  # In float32, 255 steps of the range are a little less than the range.
  assert found.tolist() == [[0, 0, 254], [254, 63, 127], [127, 254, 0]]
  signed = vectors.quantize(GIVEN, "int8")
  # Like those of sentence-transformers, cut towards 0.
  assert signed.tolist() == [[-128, -128, 126], [126, -64, 0], [0, 126, -128]]
  # Of other texts: what is beyond is cut.
  known = vectors.ranges(GIVEN[:2])
  other = vectors.quantize(GIVEN[2], "uint8", known)
  assert other.tolist() == [127, 255, 0]


def test_a_bit_for_each_dimension_above_0():
  given = np.array([[1, -1, 0, 2, 3, -4, 5, 6, 7, -8]], np.float32)
  assert vectors.quantize(given, "ubinary").tolist() == [
    [0b10011011, 0b10000000]
  ]
  assert vectors.quantize(given, "binary").tolist() == [[0b10011011 - 128, 0]]
  other = vectors.quantize(-given, "binary")
  own = vectors.quantize(given, "binary")
  # All but the 0 and the 6 bits that pad differ.
  assert vectors.hamming_similarity(own, own).tolist() == [[16]]
  assert vectors.hamming_similarity(own, other).tolist() == [[7]]


def test_a_model_embeds_in_fewer_bits():
  model = cases.model("embedding")
  texts = [cases.TEXT, "it sorts", cases.LONG]
  full = model.embed(texts)
  for precision in ("int8", "binary"):
    np.testing.assert_array_equal(
      model.embed(texts, precision), vectors.quantize(full, precision)
    )
  single = model.embed(texts[0], "binary", truncate_dim=8)
  assert single.shape == (1,)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: vectors.quantize(GIVEN, "int4"), "precision: unknown 'int4'"),
    (lambda: vectors.ranges(GIVEN[:0]), "expected vectors, got none"),
    (
      lambda: vectors.quantize(GIVEN, "int8", np.zeros((2, 2))),
      r"expected the shape \(2, 3\), got \(2, 2\)",
    ),
  ],
)
def test_wrong_arguments(call, message):
  with user_error(message):
    call()

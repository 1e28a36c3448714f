"""Parts of a text, chosen by how likely they start and end at a token."""

import unicodedata
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.lib.stride_tricks import sliding_window_view

from bert_jax.tasks.targets import losses, numeric


class Spans(NamedTuple):
  """The best spans of a row, best first, with the logits of start plus end.

  Attributes:
    logits: of the spans.
    firsts: their first tokens.
    lasts: their last tokens.
    null_logit: that of the span that is only the first token of the row.
    normalizer: what to take from a logit for the log of its probability, if
      start and end are chosen apart.
  """

  logits: Float[np.ndarray, " spans"]
  firsts: Int[np.ndarray, " spans"]
  lasts: Int[np.ndarray, " spans"]
  null_logit: float
  normalizer: float


def best(
  logits: Float[np.ndarray, "batch length 2"],
  in_context: Bool[np.ndarray, "batch length"],
  max_length: int,
  count: int,
) -> list[Spans]:
  """The likeliest spans, as Transformers' question-answering pipeline has it.

  Args:
    logits: of start and end.
    in_context: which tokens can be in a span; the row's first token takes
      probability too, as the span that stands for no answer.
    max_length: tokens of a span, at most.
    count: how many spans, at most.

  Returns:
    Those of each row.
  """
  max_length = min(max_length, logits.shape[1])
  possible = in_context[..., None].copy()
  possible[:, 0] = True
  normalizers = numeric.logsumexp(losses.only(possible, logits), 1).sum(-1)
  nulls = logits[:, 0].sum(-1)
  inside = np.where(in_context[..., None], logits, -np.inf)
  more = [(0, 0), (0, max_length - 1)]
  ends = np.pad(inside[..., 1], more, constant_values=-np.inf)
  # The logit of each span: [batch, first token, further tokens].
  sums = inside[..., :1] + sliding_window_view(ends, max_length, axis=1)
  made = []
  for row, best_of_firsts in zip(sums, sums.max(-1)):
    # None of the best spans begins elsewhere.
    firsts = np.sort(numeric.top_k(best_of_firsts, count)[1])
    found, places = numeric.top_k(row[firsts].ravel(), count)
    places = places[found > -np.inf]
    begins, further = firsts[places // max_length], places % max_length
    made.append((found[: len(places)], begins, begins + further))
  return [
    Spans(*spans, null, normalizer)
    for spans, null, normalizer in zip(
      made, nulls.tolist(), normalizers.tolist()
    )
  ]


class Tokens(NamedTuple):
  """The tokens of a row and where they are in a text.

  Attributes:
    starts: each token's first character.
    ends: one past its last.
    in_context: whether it is of that text.
    continuations: whether it continues a word.
  """

  starts: np.ndarray
  ends: np.ndarray
  in_context: np.ndarray
  continuations: np.ndarray


def widen(tokens: Tokens, text: str, first: int, last: int) -> tuple[int, int]:
  """The span with the rest of the words that it begins and ends in."""
  while _joined(tokens, text, first):
    first -= 1
  while last + 1 < len(tokens.starts) and _joined(tokens, text, last + 1):
    last += 1
  return first, last


def _joined(tokens: Tokens, text: str, place: int) -> bool:
  """Whether a token is of one word with the one before it.

  The pieces of RoBERTa, ALBERT and their kin tell only of white space: letters
  and punctuation are different words, a run of either is one.
  """
  if not (tokens.in_context[place] and tokens.in_context[place - 1]):
    return False
  start, end = tokens.starts[place], tokens.ends[place - 1]
  if start < end:  # Two pieces of one character.
    return True
  return (
    start == end
    and bool(tokens.continuations[place])
    and _kind(text[end - 1]) == _kind(text[start]) != "space"
  )


def _kind(character: str) -> str:
  """What a character is in BERT's rules for words."""
  if character.isspace():
    return "space"
  if character.isascii():
    return "letter" if character.isalnum() else "punctuation"
  is_punctuation = unicodedata.category(character).startswith("P")
  return "punctuation" if is_punctuation else "letter"

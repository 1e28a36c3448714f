"""Parts of a text, chosen by how likely they start and end at a token."""

import functools
import unicodedata
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from bert_jax.tasks.targets import losses


class Spans(NamedTuple):
  """The best spans of each row, best first, with the logits of start plus end.

  Attributes:
    logits: -inf where there are no more spans.
    firsts: their first tokens.
    lasts: their last tokens.
    null_logits: those of the span that is only the first token of the row.
    normalisers: what to take from a logit for the log of its probability, if
      start and end are chosen apart.
  """

  logits: Float[Array, "batch spans"]
  firsts: Int[Array, "batch spans"]
  lasts: Int[Array, "batch spans"]
  null_logits: Float[Array, "batch"]
  normalisers: Float[Array, "batch"]


@functools.partial(jax.jit, static_argnames=("max_length", "count"))
def best(
  logits: Float[Array, "batch length 2"],
  in_context: Bool[Array, "batch length"],
  max_length: int,
  count: int,
) -> Spans:
  """The likeliest spans, as Transformers' question-answering pipeline has it.

  Args:
    logits: of start and end.
    in_context: which tokens can be in a span; the row's first token takes
      probability too, as the span that stands for no answer.
    max_length: tokens of a span, at most.
    count: how many spans, at most.
  """
  length = logits.shape[1]
  max_length = min(max_length, length)
  in_context = jnp.asarray(in_context)[..., None]
  possible = in_context.at[:, 0].set(True)
  normalisers = jax.nn.logsumexp(losses.only(possible, logits), axis=1).sum(-1)
  inside = jnp.where(in_context, logits, -jnp.inf)
  starts, ends = jnp.moveaxis(inside, -1, 0)
  ends = jnp.pad(ends, ((0, 0), (0, max_length - 1)), constant_values=-jnp.inf)
  lasts = jnp.arange(length)[:, None] + jnp.arange(max_length)
  sums = (starts[..., None] + ends[:, lasts]).reshape(len(starts), -1)
  sums, places = jax.lax.top_k(sums, min(count, sums.shape[1]))
  firsts, more = jnp.divmod(places, max_length)
  return Spans(sums, firsts, firsts + more, logits[:, 0].sum(-1), normalisers)


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

"""Which tokens attend to which."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Tokens(NamedTuple):
  """What decides which tokens attend to which; see `types.Batch`.

  Attributes:
    sequence_ids: the sequence of each token in its row; 0 is padding.
    stage_ids: their stages; None for stage 0 everywhere.
    position_ids: the position of each token in its sequence; needed where a
      window is combined with stages, or with keys from an earlier call.
  """

  sequence_ids: Int[Array, "batch length"]
  stage_ids: Int[Array, "batch length"] | None = None
  position_ids: Int[Array, "batch length"] | None = None


class Keys(NamedTuple):
  """The keys and values of one layer, which later queries attend to.

  Attributes:
    key: the projected and, with RoPE, rotated keys.
    value: the projected values.
    tokens: those that they are of.
  """

  key: Float[Array, "batch length heads depth"]
  value: Float[Array, "batch length heads depth"]
  tokens: Tokens


def own_mask(tokens: Tokens, window: int) -> Bool[Array, "batch length length"]:
  """Whether a token (second axis) attends to a token (third) of its row.

  Padding attends to padding, so that no row is empty and no softmax divides by
  zero. With a `window`, the distance is at most `window // 2`.
  """
  place = jnp.arange(tokens.sequence_ids.shape[1])
  return mask_of(tokens, tokens, window, (place, place))


def mask_of(
  queries: Tokens,
  keys: Tokens,
  window: int,
  places: tuple[Int[Array, "queries"], Int[Array, "keys"]] | None = None,
) -> Bool[Array, "batch queries keys"]:
  """Whether a token attends to a token of the same call, or an earlier one.

  `places` are those of both in the rows of the same call; None for an earlier
  call.
  """
  mask = queries.sequence_ids[:, :, None] == keys.sequence_ids[:, None, :]
  has_stages = any(x.stage_ids is not None for x in (queries, keys))
  if has_stages:
    last, _ = stage_bounds(_stages(queries))
    _, first = stage_bounds(_stages(keys))
    mask &= first[:, None] <= last[:, :, None]
    if places:
      mask |= places[0][:, None] == places[1]
  if window:
    # Masked copies are not at the place of their position.
    by_place = places and not has_stages
    at = places if by_place else (queries.position_ids, keys.position_ids)
    mask &= abs(at[0][..., :, None] - at[1][..., None, :]) <= window // 2
  return mask


def pad_tokens(tokens: Tokens, count: int) -> Tokens:
  """Appends tokens to each row, which only attend to one another."""
  fills = Tokens(sequence_ids=-1, stage_ids=0, position_ids=0)

  def pad(x: Array | None, fill: int) -> Array | None:
    if x is None:
      return None
    return jnp.pad(x, ((0, 0), (0, count)), constant_values=fill)

  return Tokens(*map(pad, tokens, fills))


def stage_bounds(
  stages: Int[Array, "*batch length"],
) -> tuple[Int[Array, "*batch length"], Int[Array, "*batch length"]]:
  """The last stage that a query attends to; the first that attends to a key.

  Masked copies are attended to by no stage.
  """
  is_copy, never = stages < 0, jnp.iinfo(jnp.int32).max
  last = jnp.where(is_copy, -stages - 1, stages)
  return last, jnp.where(is_copy, never, stages)


def _stages(tokens: Tokens) -> Int[Array, "batch length"]:
  if tokens.stage_ids is None:
    return jnp.zeros_like(tokens.sequence_ids)
  return tokens.stage_ids

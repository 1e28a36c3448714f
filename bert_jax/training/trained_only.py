"""Checkpoints without the encoder's frozen parameters.

A run of adapters trains a hundredth of its model. The rest is that of
`config.init`, from where it is read again; a checksum tells whether it is the
same.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt32

from bert_jax import trees
from bert_jax.settings import UserError
from bert_jax.types import Parameters, TrainState

if TYPE_CHECKING:
  # It imports Orbax, which who loads a model may do without.
  from bert_jax.checkpointing.checkpoints import Checkpoints

CHECKSUM = "frozen"
"""The key of a checkpoint's metadata."""


class TrainedOnly:
  """As `Checkpoints`, of which it is a view."""

  def __init__(
    self,
    checkpoints: "Checkpoints",
    frozen: Parameters,
    init: str,
    params: Callable[[], Parameters],
  ):
    """Reads nothing yet.

    Args:
      checkpoints: where states are saved.
      frozen: the mask of the parameters that are not trained.
      init: where these are, for messages.
      params: the parameters that training starts from, placed.
    """
    self._checkpoints, self._init, self._params = checkpoints, init, params
    self._known: str | None = None
    self._left_out = {
      path
      for path, is_frozen in trees.flatten(frozen).items()
      if is_frozen and path.startswith("encoder/")
    }

  def save(
    self, state: TrainState, metadata: Mapping[str, Any], best: bool = False
  ) -> None:
    """See `Checkpoints.save`."""
    metadata = {**metadata, CHECKSUM: self._checksum(state.params)}
    self._checkpoints.save(self._without(state), metadata, best)

  def restore(
    self, target: TrainState
  ) -> tuple[TrainState, dict[str, Any]] | None:
    """See `Checkpoints.restore`.

    Raises:
      UserError: as there; or the model of `config.init` has changed.
    """
    restored = self._checkpoints.restore(self._without(target))
    if restored is None:
      return None
    state, metadata = restored
    flat = trees.flatten(self._params())
    frozen = {path: flat[path] for path in self._left_out}
    check(metadata, frozen, self._init)
    params = trees.unflatten(trees.flatten(state.params) | frozen)
    return dataclasses.replace(state, params=params), metadata

  def _without(self, state: TrainState) -> TrainState:
    flat = trees.flatten(state.params)
    kept = {path: x for path, x in flat.items() if path not in self._left_out}
    return dataclasses.replace(state, params=trees.unflatten(kept))

  def _checksum(self, params: Parameters) -> str:
    """They do not change, so it is computed once."""
    if self._known is None:
      flat = trees.flatten(params)
      self._known = checksum({path: flat[path] for path in self._left_out})
    return self._known


def checksum(params: Mapping[str, Any]) -> str:
  """A hash of float32 parameters by path, whatever mesh they lie on.

  Rows of zeros at the end, which pad vocabularies, do not change it.
  """
  sums = jax.device_get(jax.jit(_sums)(dict(params)))
  listed = [(path, int(sums[path])) for path in sorted(sums)]
  return hashlib.sha256(repr(listed).encode()).hexdigest()[:16]


def check(
  metadata: Mapping[str, Any], params: Mapping[str, Any], init: str
) -> None:
  """Refuses other frozen parameters than a checkpoint was saved with.

  Raises:
    UserError: the message names the model that has changed.
  """
  if metadata[CHECKSUM] != checksum(params):
    raise UserError(
      f"config.init: {init} is not the model that the run started from, whose"
      " frozen parameters are not in its checkpoints"
    )


def _sums(params: Mapping[str, Array]) -> Mapping[str, UInt32[Array, ""]]:
  """A weighted sum of the bits of each parameter, modulo 2^32."""

  def of(x: Array) -> UInt32[Array, ""]:
    bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
    places = jnp.arange(x.size, dtype=jnp.uint32).reshape(x.shape)
    return (bits * (2 * places + 1)).sum(dtype=jnp.uint32)

  return {path: of(x) for path, x in params.items()}

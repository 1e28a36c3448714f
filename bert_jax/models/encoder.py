"""The encoder: embeddings and a stack of layers."""

import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from bert_jax import trees
from bert_jax.models import layers
from bert_jax.models.config import EncoderConfig
from bert_jax.types import Batch, Parameters

_REMAT = {
  "minimal": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  "full": jax.checkpoint_policies.nothing_saveable,
}


class Encoder(nn.Module):
  """BERT's encoder (Devlin et al. 2018, arXiv:1810.04805), and its kin.

  Layers are unrolled as `layer_0` ... `layer_{L-1}`: their parameters carry
  the names of the published checkpoints, and LAMB sees one leaf a layer.
  Where layers are shared, there is only `layer_0`.
  """

  config: EncoderConfig

  def setup(self):
    config = self.config
    count = 1 if config.shared_layers else config.num_layers
    self.embeddings = layers.Embeddings(config)
    layer = layers.Layer
    if config.remat != "none":
      # Its third argument is a Python bool.
      layer = nn.remat(layer, static_argnums=3, policy=_REMAT[config.remat])
    self.layer = [layer(config, index) for index in range(count)]
    if config.pre_norm:
      self.final_norm = layers.LayerNorm(config)

  def __call__(
    self, batch: Batch, deterministic: bool = True
  ) -> Float[Array, "*rows length hidden"]:
    """Encodes a batch.

    Args:
      batch: the input; its targets are not looked at. There may be several
        axes of rows, as in [batch, choices, length].
      deterministic: whether dropout is off; when on, the `dropout` PRNG is
        needed.

    Returns:
      A vector for each token, in the config's dtype. Where the collections
      `hidden_states` and `attentions` are mutable, the outputs of the
      embeddings and of each layer (before a final norm), and the attention
      weights of each layer, are sown into them; see `sown`.
    """
    config, shape = self.config, batch.token_ids.shape
    batch = _as_rows(batch)
    x = self.embeddings(batch, deterministic)
    self._sow(x)
    for index in range(config.num_layers):
      layer = self.layer[0 if config.shared_layers else index]
      x = layer(x, batch, deterministic)
      self._sow(x)
    x = self.final_norm(x) if config.pre_norm else x
    return x.reshape(*shape, config.hidden_size)

  def _sow(self, x: Float[Array, "rows length hidden"]) -> None:
    if not self.is_initializing():
      self.sow("hidden_states", "outputs", x)


def sown(
  config: EncoderConfig, variables: Mapping[str, Any]
) -> tuple[tuple[Array, ...] | None, tuple[Array, ...] | None]:
  """The hidden states and attention weights of a forward pass.

  Args:
    config: the encoder's configuration.
    variables: the mutated collections that `apply(..., mutable=[...])` of an
      `Encoder` returns.

  Returns:
    L + 1 arrays [rows, length, hidden] and L arrays
    [rows, heads, length, length]; None for a collection that is not there.
  """
  states = weights = None
  if "hidden_states" in variables:
    states = tuple(variables["hidden_states"]["outputs"])
  if "attentions" in variables:
    # Shared layers sow once for each time that they are applied.
    count = 1 if config.shared_layers else config.num_layers
    layers = (variables["attentions"][f"layer_{i}"] for i in range(count))
    weights = tuple(
      array for layer in layers for array in layer["attention"]["weights"]
    )
  return states, weights


def _as_rows(batch: Batch) -> Batch:
  """The id arrays with one axis of rows, without the targets."""
  rows = (-1, batch.token_ids.shape[-1])
  return Batch(
    token_ids=batch.token_ids.reshape(rows),
    segment_ids=batch.segment_ids.reshape(rows),
    position_ids=batch.position_ids.reshape(rows),
    sequence_ids=batch.sequence_ids.reshape(rows),
    targets={},
  )


def distances(params: Parameters) -> Parameters:
  """How many layers below the heads each parameter of a model lies.

  Args:
    params: a model's parameters or their shape structs, of one task or of
      several on one encoder; all but the top layer may be missing.

  Returns:
    The same tree of ints: 0 for heads, 1 for the top layer and a last norm,
    and so on down to one more than the number of layers for the embeddings.
  """
  layer = re.compile(r"encoder/layer_(\d+)/.+")
  found = (layer.fullmatch(path) for path in trees.flatten(params))
  count = 1 + max((int(match[1]) for match in found if match), default=-1)

  def distance(path: str, _) -> int:
    if match := layer.fullmatch(path):
      return count - int(match[1])
    if path.startswith("encoder/embeddings/"):
      return count + 1
    return int(path.startswith("encoder/"))

  return trees.map_with_path(distance, params)

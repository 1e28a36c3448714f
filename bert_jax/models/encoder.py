"""The encoder: embeddings and a stack of layers."""

import dataclasses
import re
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
from jaxtyping import Array, Float, Float32

from bert_jax import trees
from bert_jax.models import layers
from bert_jax.models.attention import Keys
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.types import Batch, Parameters

_REMAT = {
  "minimal": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  "full": jax.checkpoint_policies.nothing_saveable,
}


class EncoderOutputs(NamedTuple):
  """The outputs of an encoder, with those of its layers on request.

  Attributes:
    last_hidden_state: the output of the encoder, in the config's dtype.
    hidden_states: the outputs of the embeddings and of each layer, L + 1
      arrays; None if not asked for. As in Transformers 4, the last one of a
      model with `pre_norm` (ModernBERT) is the input of the final norm.
    attentions: the attention weights of each layer before dropout, L arrays,
      whose last axis are the keys; None if not asked for. The weights of
      padding as a key are 0; those of padding as a query are meaningless.
    keys: the keys and values of each layer, L of them; None if not asked for.
  """

  last_hidden_state: Float[Array, "*rows length hidden"]
  hidden_states: tuple[Float[Array, "*rows length hidden"], ...] | None = None
  attentions: tuple[Float32[Array, "*rows heads length length"], ...] | None = (
    None
  )
  keys: tuple[Keys, ...] | None = None


class Encoder(nn.Module):
  """A BERT encoder (Devlin et al. 2018, arXiv:1810.04805) of any family.

  Layers are unrolled as `layer_0` ... `layer_{L-1}`: their parameters have
  the names of the published checkpoints, and LAMB one trust ratio per layer.
  With `shared_layers`, these are the `distinct_layers` of the config.

  With `mutable=["intermediates"]`, that collection has the `hidden_states`, and
  of each layer's attention `projected`: queries, keys and values before
  rotation, [batch, length, width].
  """

  config: EncoderConfig

  def setup(self):
    config = self.config
    self.embeddings = layers.Embeddings(config)
    layer = layers.Layer
    if config.remat != "none":
      # The arguments `deterministic`, `attentions` and `keys` are Python bools.
      layer = nn.remat(
        layer, static_argnums=(3, 4, 7), policy=_REMAT[config.remat]
      )
    self.layer = [
      layer(config, index) for index in range(config.distinct_layers)
    ]
    if config.pre_norm:
      self.final_norm = layers.LayerNorm(config)

  def __call__(
    self,
    batch: Batch,
    deterministic: bool = True,
    hidden_states: bool = False,
    attentions: bool = False,
    keys: bool = False,
    past: Sequence[Sequence[Keys]] = (),
  ) -> Float[Array, "*rows length hidden"] | EncoderOutputs:
    """Encodes a batch.

    Args:
      batch: the input; its targets are ignored. There may be several axes of
        rows, as in [batch, choices, length].
      deterministic: whether dropout is off; otherwise the PRNG `dropout` is
        needed.
      hidden_states: whether to return the output of each layer.
      attentions: whether to return the attention weights of each layer, which
        are computed by the attention backend `xla`.
      keys: whether to return the keys and values of each layer.
      past: for each layer, keys and values of earlier calls, which the tokens
        attend to as well; see `attention.attention`.

    Returns:
      The vector of each token, [*rows, length, hidden], in the config's dtype;
      `EncoderOutputs` if `hidden_states`, `attentions` or `keys` is set.

    Raises:
      UserError: the config names an attention backend without weights.
    """
    config, rows = self.config, batch.token_ids.shape[:-1]
    if attentions and config.attention not in ("auto", "xla"):
      raise UserError(
        f"attentions: the attention backend {config.attention} has no"
        " attention weights; use xla"
      )
    batch = _as_rows(batch)
    x = self.embeddings(batch, deterministic)
    relative = self.embeddings.relative_positions(
      batch, past[0] if past else ()
    )
    self.sow("intermediates", "hidden_states", x)
    states, weights, own_keys = [x], [], []
    for index in range(config.num_layers):
      layer = self.layer[config.distinct_layer(index)]
      earlier = past[index] if past else ()
      x, layer_weights, layer_keys = layer(
        x, batch, deterministic, attentions, relative, earlier, keys
      )
      states.append(x)
      self.sow("intermediates", "hidden_states", x)
      weights.append(layer_weights)
      own_keys.append(layer_keys)
    outputs = EncoderOutputs(
      self.normalized(x),
      tuple(states) if hidden_states else None,
      tuple(weights) if attentions else None,
      tuple(own_keys) if keys else None,
    )
    outputs = jax.tree.map(lambda x: x.reshape(*rows, *x.shape[1:]), outputs)
    if hidden_states or attentions or keys:
      return outputs
    return outputs.last_hidden_state

  def layers(
    self,
    batch: Batch,
    x: Float[Array, "rows length hidden"] | None,
    first: int,
    last: int,
  ) -> Float[Array, "rows length hidden"]:
    """A part of the layers, without dropout.

    Args:
      batch: the input, with one axis of rows.
      x: the output of the layer before; None for that of the embeddings.
      first: the first layer, from 0.
      last: one past the last.
    """
    if x is None:
      x = self.embeddings(batch, True)
    relative = self.embeddings.relative_positions(batch, ())
    for index in range(first, last):
      x, _, _ = self.layer[self.config.distinct_layer(index)](
        x, batch, True, False, relative, (), False
      )
    return x

  def normalized(
    self, x: Float[Array, "*rows length hidden"]
  ) -> Float[Array, "*rows length hidden"]:
    """The output of a layer as heads take it: with `pre_norm`, normalized."""
    return self.final_norm(x) if self.config.pre_norm else x


def _as_rows(batch: Batch) -> Batch:
  """The id arrays with a single axis of rows, without the targets."""
  batch = dataclasses.replace(batch, targets={}, task="")
  return jax.tree.map(lambda x: x.reshape(-1, x.shape[-1]), batch)


def distances(params: Parameters) -> Parameters:
  """The distance of each parameter, or shape struct, from the heads, in layers.

  It is 0 for heads, 1 for the top layer and the final norm, and so on down to
  L + 1 for the embeddings.
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

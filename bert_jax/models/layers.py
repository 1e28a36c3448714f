"""The modules of an encoder: dense, norm, embeddings, attention, one layer."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int, Shaped

from bert_jax.models import attention, quantization
from bert_jax.models.activations import ACTIVATIONS
from bert_jax.models.config import EncoderConfig
from bert_jax.models.dropout import Dropout
from bert_jax.types import Batch


def initializer(config: EncoderConfig) -> jax.nn.initializers.Initializer:
  """BERT's truncated normal, truncated at two standard deviations.

  As in TensorFlow, it is not rescaled after the truncation.
  """
  return nn.initializers.truncated_normal(
    config.initializer_range, lower=-2.0, upper=2.0
  )


@jax.custom_vjp
def project(
  x: Float[Array, "*rows features"], kernel: Float[Array, "features width"]
) -> Float[Array, "*rows width"]:
  """`x @ kernel`, whose gradient has the layout of the kernel.

  `jax.grad` computes the transpose of the gradient and then transposes it, for
  which XLA on CPUs first transposes the cotangent in memory.
  """
  return x @ kernel


def _project_forward(x, kernel):
  return x @ kernel, (x, kernel)


def _project_backward(residuals, gradient):
  x, kernel = residuals
  # A single axis of rows, so that XLA on CPUs does not transpose the operands.
  flat = (x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1]))
  of_x = jnp.einsum("...n,kn->...k", gradient, kernel)
  return of_x, jnp.einsum("rk,rn->kn", *flat)


project.defvjp(_project_forward, _project_backward)


@jax.custom_vjp
def project_int8(
  x: Float[Array, "*rows features"], kernel: Float[Array, "features width"]
) -> Float[Array, "*rows width"]:
  """`x @ kernel`, both rounded to 8 bits, which the gradient does not see.

  Each row of `x` and each column of the kernel has its own scale. Products are
  of integers, summed in 32 bits.
  """
  largest = jnp.abs(x).max(-1, keepdims=True).astype(jnp.float32)
  # Products are cheaper than quotients.
  inverse = 127 / jnp.maximum(largest, 1e-30)
  left = jnp.round(x * inverse).astype(jnp.int8)
  right, scale = quantization.to_int8(kernel, 0)
  product = jax.lax.dot_general(
    left,
    right,
    (((x.ndim - 1,), (0,)), ((), ())),
    preferred_element_type=jnp.int32,
  )
  return (product * (largest / 127) * scale[0]).astype(x.dtype)


def _project_int8_forward(x, kernel):
  return project_int8(x, kernel), (x, kernel)


def _project_int8_backward(residuals, gradient):
  x, kernel = residuals
  of_x, of_kernel = _project_backward((x, kernel.astype(x.dtype)), gradient)
  return of_x, of_kernel.astype(kernel.dtype)


project_int8.defvjp(_project_int8_forward, _project_int8_backward)


class Dense(nn.Module):
  """A dense layer with BERT's initializer, computed in the config's dtype.

  `bias` overrides the `biases` of the config, `dtype` its dtype.
  """

  config: EncoderConfig
  features: int
  bias: bool | None = None
  dtype: str | None = None

  @nn.compact
  def __call__(
    self, x: Float[Array, "*rows width"]
  ) -> Float[Array, "*rows features"]:
    """Projects the last axis."""
    config, shape = self.config, (x.shape[-1], self.features)
    dtype = self.dtype or config.dtype
    kernel = self.param("kernel", initializer(config), shape)
    if config.dense_dtype and not self.dtype:
      y = project_int8(x.astype(dtype), kernel)
    else:
      y = project(x.astype(dtype), kernel.astype(dtype))
    if config.biases if self.bias is None else self.bias:
      bias = self.param("bias", nn.initializers.zeros, (self.features,))
      y += bias.astype(dtype)
    return y


class LayerNorm(nn.Module):
  """Layer normalization with float32 statistics, in the config's dtype."""

  config: EncoderConfig

  @nn.compact
  def __call__(
    self, x: Float[Array, "*rows hidden"]
  ) -> Float[Array, "*rows hidden"]:
    """Normalizes the last axis."""
    wide = x.astype(jnp.float32)
    mean = wide.mean(axis=-1, keepdims=True)
    # Both means in one pass; accurate, as the mean is close to 0.
    square = jnp.square(wide).mean(axis=-1, keepdims=True)
    variance = jnp.maximum(square - jnp.square(mean), 0)
    inverse = jax.lax.rsqrt(variance + self.config.layer_norm_epsilon)
    scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
    y = (wide - mean) * inverse * scale
    if self.config.biases:
      y += self.param("bias", nn.initializers.zeros, (x.shape[-1],))
    return y.astype(self.config.dtype)


class Relative(NamedTuple):
  """Relative positions of queries and keys.

  Attributes:
    values: added to attention scores; with `disentangled`, the embeddings of
      buckets of distances.
    distance: the positions of queries less those of keys; None where they are
      the places in a row.
  """

  values: (
    Float32[Array, "#batch heads length keys"] | Float[Array, "buckets hidden"]
  )
  distance: Int[Array, "batch length keys"] | None = None


class Embeddings(nn.Module):
  """The normalized sum of word, position and segment embeddings."""

  config: EncoderConfig

  def setup(self):
    config = self.config
    table = functools.partial(
      nn.Embed,
      features=config.embedding_size or config.hidden_size,
      dtype=config.dtype,
      embedding_init=initializer(config),
    )
    self.word = table(config.vocab_rows)
    if config.has_position_embedding:
      self.position = table(config.position_offset + config.max_positions)
    if config.num_segments:
      self.segment = table(config.num_segments)
    if config.relative_buckets:
      self.relative = nn.Embed(
        config.relative_buckets,
        config.hidden_size if config.disentangled else config.num_heads,
        embedding_init=initializer(config),
      )
    if config.disentangled:
      self.relative_norm = LayerNorm(config)
    self.norm = LayerNorm(config)
    self.dropout = Dropout(config.hidden_dropout)
    if config.embedding_size:
      self.projection = Dense(config, config.hidden_size)

  def __call__(
    self, batch: Batch, deterministic: bool
  ) -> Float[Array, "batch length hidden"]:
    """Embeds the tokens."""
    config = self.config
    x = self.word(batch.token_ids)
    if config.has_position_embedding:
      x += self.position(batch.position_ids + config.position_offset)
    if config.num_segments:
      # RoBERTa has a single row, for both texts of a pair.
      last = config.num_segments - 1
      x += self.segment(jnp.minimum(batch.segment_ids, last))
    x = self.dropout(self.norm(x), deterministic)
    return self.projection(x) if config.embedding_size else x

  def relative_positions(
    self, batch: Batch, past: Sequence[attention.Keys] = ()
  ) -> Relative | None:
    """The relative positions of a batch; None without them.

    With stages, or `past` keys, tokens are not at the place of their position.
    """
    config, length = self.config, batch.token_ids.shape[1]
    if not config.relative_buckets:
      return None
    distance = None
    if past or batch.stage_ids is not None:
      queries = batch.position_ids
      earlier = [
        repeat_rows(keys.tokens.position_ids, len(queries)) for keys in past
      ]
      keys = jnp.concatenate([*earlier, queries], axis=1)
      distance = queries[:, :, None] - keys[:, None]
    if config.disentangled:
      count, reach = config.relative_buckets, config.max_positions
      length = length if distance is None else None
      used = attention.used_buckets(length, count, reach)
      table = self.relative_norm(self.relative.embedding[used])
      return Relative(table, distance)
    if distance is not None:
      buckets = attention.bias_buckets_of(-distance, config.relative_buckets)
      return Relative(jnp.moveaxis(self.relative(buckets), -1, 1), distance)
    buckets = attention.bias_buckets(length, config.relative_buckets)
    bias = self.relative(buckets).T[:, None]
    bias = jnp.broadcast_to(bias, (len(bias), length, *buckets.shape))
    return Relative(attention.by_distance(bias)[None])


def repeat_rows(x: Shaped[Array, "..."], rows: int) -> Shaped[Array, "..."]:
  """Rows of an earlier call for the consecutive rows that share each."""
  return jnp.repeat(x, rows // len(x), axis=0)


# An output, and on request the attention weights before dropout, and the keys
# and values.
_WithDetails = tuple[
  Float[Array, "batch length hidden"],
  Float32[Array, "batch heads length keys"] | None,
  attention.Keys | None,
]


class SelfAttention(nn.Module):
  """Multi-head self-attention with its output projection."""

  config: EncoderConfig
  is_local: bool

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "batch length hidden"],
    batch: Batch,
    deterministic: bool,
    attentions: bool = False,
    relative: Relative | None = None,
    past: Sequence[attention.Keys] = (),
    keys: bool = False,
  ) -> _WithDetails:
    """Attends to the tokens of the same sequence, and to those of `past`."""
    config = self.config
    split = (*x.shape[:2], config.num_heads, config.head_width)
    dense = {
      name: Dense(config, config.num_heads * config.head_width, name=name)
      for name in ("query", "key", "value")
    }
    projected = tuple(layer(x) for layer in dense.values())
    self.sow("intermediates", "projected", projected)
    query, key, value = (y.reshape(split) for y in projected)
    if config.rotary_base:
      local = config.local_rotary_base
      base = local if self.is_local else config.rotary_base
      query = attention.rotate(query, batch.position_ids, base)
      key = attention.rotate(key, batch.position_ids, base)
    bias = relative.values if relative else None
    if config.disentangled:
      table = Dropout(config.hidden_dropout)(bias, deterministic)
      places = [
        dense[name](table).reshape(len(table), *key.shape[2:])
        for name in ("query", "key")
      ]
      # Divides each of the three products by the root of three times the depth.
      query, places[0] = (
        x * jnp.asarray(3**-0.5, x.dtype) for x in (query, places[0])
      )
      earlier = [repeat_rows(keys.key, len(key)) for keys in past]
      bias = attention.disentangled_bias(
        query,
        jnp.concatenate([*earlier, key], axis=1) if past else key,
        *places,
        config.relative_buckets,
        config.max_positions,
        relative.distance,
      )
    dropout = None
    if config.attention_dropout and not deterministic:
      dropout = attention.Dropout(
        config.attention_dropout,
        self.make_rng("dropout"),
        config.attention_dropout_broadcast,
      )
    window = config.local_window if self.is_local else 0
    tokens = attention.Tokens(
      batch.sequence_ids, batch.stage_ids, batch.position_ids
    )
    weights = None
    if attentions:
      weights = attention.attention_weights(
        query, key, tokens, window, bias, past
      )
    mixed = attention.attention(
      query,
      key,
      value,
      tokens,
      past=past,
      window=window,
      bias=bias,
      backend="xla" if attentions else config.attention,
      dropout=dropout,
    )
    output = Dense(config, config.hidden_size, name="output")
    own = attention.Keys(key, value, tokens) if keys else None
    return output(mixed.reshape(*x.shape[:2], -1)), weights, own


class FeedForward(nn.Module):
  """Two dense layers with an activation in between, which may be gated."""

  config: EncoderConfig

  @nn.compact
  def __call__(
    self, x: Float[Array, "batch length hidden"]
  ) -> Float[Array, "batch length hidden"]:
    """Transforms each token independently."""
    config = self.config
    y = Dense(config, config.intermediate_size, name="intermediate")(x)
    y = ACTIVATIONS[config.activation](y)
    if config.gated:
      y *= Dense(config, config.intermediate_size, name="gate")(x)
    return Dense(config, config.hidden_size, name="output")(y)


class Layer(nn.Module):
  """One Transformer layer."""

  config: EncoderConfig
  index: int

  def setup(self):
    config = self.config
    is_local = config.local_window and self.index % config.global_every
    own = config.of_layer(self.index)
    self.attention = SelfAttention(own, bool(is_local))
    if self.index or not config.pre_norm:
      self.attention_norm = LayerNorm(config)
    self.feed_forward = FeedForward(own)
    self.feed_forward_norm = LayerNorm(config)
    rates = config.layer_dropouts
    self.dropout = Dropout(
      rates[self.index] if rates else config.hidden_dropout
    )

  def __call__(
    self,
    x: Float[Array, "batch length hidden"],
    batch: Batch,
    deterministic: bool,
    attentions: bool = False,
    relative: Relative | None = None,
    past: Sequence[attention.Keys] = (),
    keys: bool = False,
  ) -> _WithDetails:
    """Applies attention, then the feed-forward block."""
    y = x
    if self.config.pre_norm and self.index:
      y = self.attention_norm(x)
    y, weights, own = self.attention(
      y, batch, deterministic, attentions, relative, past, keys
    )
    x += self.dropout(y, deterministic)
    if self.config.pre_norm:
      y = self.feed_forward(self.feed_forward_norm(x))
      return x + self.dropout(y, deterministic), weights, own
    x = self.attention_norm(x)
    x += self.dropout(self.feed_forward(x), deterministic)
    return self.feed_forward_norm(x), weights, own

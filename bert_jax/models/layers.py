"""The parts of an encoder: dense, norm, embeddings, attention, one layer."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from bert_jax.models import attention
from bert_jax.models.config import EncoderConfig

ACTIVATIONS = {
  "gelu": functools.partial(jax.nn.gelu, approximate=False),
  "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
}


def initializer(config: EncoderConfig) -> jax.nn.initializers.Initializer:
  """BERT's truncated normal, cut at two standard deviations.

  TensorFlow does not rescale after the cut, so neither does this.
  """
  return nn.initializers.truncated_normal(
    config.initializer_range, lower=-2.0, upper=2.0
  )


def dense(config: EncoderConfig, features: int, name: str | None = None):
  """A dense layer with BERT's initial values, in the config's dtype."""
  return nn.Dense(
    features,
    dtype=config.dtype,
    kernel_init=initializer(config),
    name=name,
  )


class LayerNorm(nn.Module):
  """Layer normalisation with float32 statistics, in the config's dtype."""

  config: EncoderConfig

  @nn.compact
  def __call__(
    self, x: Float[Array, "*rows hidden"]
  ) -> Float[Array, "*rows hidden"]:
    """Normalises the last axis."""
    scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
    bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
    wide = x.astype(jnp.float32)
    mean = wide.mean(axis=-1, keepdims=True)
    centred = wide - mean
    variance = jnp.square(centred).mean(axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(variance + self.config.layer_norm_epsilon)
    return (centred * inverse * scale + bias).astype(self.config.dtype)


class Embeddings(nn.Module):
  """The sum of word, position and segment embeddings, normalised."""

  config: EncoderConfig

  def setup(self):
    config = self.config
    table = functools.partial(
      nn.Embed,
      features=config.hidden_size,
      dtype=config.dtype,
      embedding_init=initializer(config),
    )
    self.word = table(config.vocab_size)
    self.position = table(config.max_positions)
    self.segment = table(config.num_segments)
    self.norm = LayerNorm(config)
    self.dropout = nn.Dropout(config.hidden_dropout)

  def __call__(
    self,
    token_ids: Int[Array, "batch length"],
    segment_ids: Int[Array, "batch length"],
    position_ids: Int[Array, "batch length"],
    deterministic: bool,
  ) -> Float[Array, "batch length hidden"]:
    """Embeds the tokens."""
    x = (
      self.word(token_ids)
      + self.position(position_ids)
      + self.segment(segment_ids)
    )
    return self.dropout(self.norm(x), deterministic)


class SelfAttention(nn.Module):
  """Multi-head self-attention, up to and with the output projection."""

  config: EncoderConfig

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "batch length hidden"],
    sequence_ids: Int[Array, "batch length"],
    deterministic: bool,
  ) -> Float[Array, "batch length hidden"]:
    """Lets every token look at the tokens of its own sequence."""
    config = self.config
    split = (*x.shape[:2], config.num_heads, -1)
    query, key, value = (
      dense(config, config.hidden_size, name)(x).reshape(split)
      for name in ("query", "key", "value")
    )
    rate = 0.0 if deterministic else config.attention_dropout
    mixed = attention.attention(
      query,
      key,
      value,
      sequence_ids,
      backend=config.attention,
      dropout_rate=rate,
      dropout_key=self.make_rng("dropout") if rate else None,
    )
    return dense(config, config.hidden_size, "output")(mixed.reshape(x.shape))


class FeedForward(nn.Module):
  """Two dense layers around the activation."""

  config: EncoderConfig

  @nn.compact
  def __call__(
    self, x: Float[Array, "batch length hidden"]
  ) -> Float[Array, "batch length hidden"]:
    """Transforms every token by itself."""
    config = self.config
    x = dense(config, config.intermediate_size, "intermediate")(x)
    x = ACTIVATIONS[config.activation](x)
    return dense(config, config.hidden_size, "output")(x)


class Layer(nn.Module):
  """One Transformer layer, normalised after each residual sum."""

  config: EncoderConfig

  def setup(self):
    self.attention = SelfAttention(self.config)
    self.attention_norm = LayerNorm(self.config)
    self.feed_forward = FeedForward(self.config)
    self.feed_forward_norm = LayerNorm(self.config)
    self.dropout = nn.Dropout(self.config.hidden_dropout)

  def __call__(
    self,
    x: Float[Array, "batch length hidden"],
    sequence_ids: Int[Array, "batch length"],
    deterministic: bool,
  ) -> Float[Array, "batch length hidden"]:
    """Applies attention, then the feed-forward block."""
    y = self.attention(x, sequence_ids, deterministic)
    x = self.attention_norm(x + self.dropout(y, deterministic))
    y = self.feed_forward(x)
    return self.feed_forward_norm(x + self.dropout(y, deterministic))

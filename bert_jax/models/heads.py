"""Heads, and the models that join an encoder with them."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from bert_jax.models import layers
from bert_jax.models.config import EncoderConfig
from bert_jax.models.encoder import Encoder
from bert_jax.types import Batch


class MaskedLanguageModel(nn.Module):
  """Logits over the vocabulary, the decoder tied to the word embedding."""

  config: EncoderConfig

  @nn.compact
  def __call__(
    self,
    hidden: Float[Array, "batch predictions hidden"],
    word_embedding: Float[Array, "vocabulary hidden"],
  ) -> Float[Array, "batch predictions vocabulary"]:
    """Scores every word at each of the given vectors; float32."""
    config = self.config
    x = layers.dense(config, config.hidden_size, "transform")(hidden)
    x = layers.ACTIVATIONS[config.activation](x)
    x = layers.LayerNorm(config, name="norm")(x)
    bias = self.param("bias", nn.initializers.zeros, (config.vocab_size,))
    logits = jnp.einsum(
      "bph,vh->bpv",
      x,
      word_embedding.astype(config.dtype),
      preferred_element_type=jnp.float32,
    )
    return logits + bias


class PretrainingOutputs(NamedTuple):
  """What `PretrainingModel` returns; logits are float32."""

  masked_lm: Float[Array, "batch predictions vocabulary"]
  next_sentence: Float[Array, "batch 2"]


class PretrainingModel(nn.Module):
  """An encoder with BERT's masked-LM and next-sentence heads."""

  config: EncoderConfig

  def setup(self):
    self.encoder = Encoder(self.config)
    self.pooler = layers.dense(self.config, self.config.hidden_size)
    self.masked_lm = MaskedLanguageModel(self.config)
    self.next_sentence = layers.dense(self.config, 2)

  def __call__(
    self, batch: Batch, deterministic: bool = True
  ) -> PretrainingOutputs:
    """Scores the words at `batch.targets["masked_positions"]`, and the pair.

    Only the masked positions go through the vocabulary projection, which at
    15 % masking saves six sevenths of it.
    """
    hidden = self.encoder(batch, deterministic)
    masked = _gather(hidden, batch.targets["masked_positions"])
    words = self.encoder.embeddings.word.embedding
    pooled = jnp.tanh(self.pooler(hidden[:, 0]))
    return PretrainingOutputs(
      masked_lm=self.masked_lm(masked, words),
      next_sentence=self.next_sentence(pooled).astype(jnp.float32),
    )


def _gather(
  hidden: Float[Array, "batch length hidden"],
  positions: Int[Array, "batch predictions"],
) -> Float[Array, "batch predictions hidden"]:
  return jnp.take_along_axis(hidden, positions[:, :, None], axis=1)

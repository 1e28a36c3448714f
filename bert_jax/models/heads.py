"""Heads, and the models that join an encoder with them."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bert_jax.models import layers, pooling
from bert_jax.models.config import EncoderConfig
from bert_jax.models.dropout import Dropout
from bert_jax.models.encoder import Encoder
from bert_jax.types import Batch, Parameters


class Transform(nn.Module):
  """What a head does to vectors before it scores them.

  Attributes:
    config: the encoder's.
    features: the width of what comes out.
    activation: a name in `layers.ACTIVATIONS`.
    has_norm: whether a norm follows.
  """

  config: EncoderConfig
  features: int
  activation: str
  has_norm: bool

  @nn.compact
  def __call__(
    self, x: Float[Array, "*rows hidden"]
  ) -> Float[Array, "*rows features"]:
    """Applies a dense layer, the activation, and a norm if there is one."""
    x = layers.Dense(self.config, self.features, name="dense")(x)
    x = layers.ACTIVATIONS[self.activation](x)
    return layers.LayerNorm(self.config, name="norm")(x) if self.has_norm else x


class MaskedLanguageHead(nn.Module):
  """Logits over the vocabulary, the decoder tied to the word embedding."""

  config: EncoderConfig

  @nn.compact
  def __call__(
    self,
    hidden: Float[Array, "batch predictions hidden"],
    word_embedding: Float[Array, "vocabulary width"],
  ) -> Float[Array, "batch predictions vocabulary"]:
    """Scores every word at each of the given vectors; float32."""
    config = self.config
    vocabulary, width = word_embedding.shape
    x = Transform(config, width, config.activation, True, name="transform")(
      hidden
    )
    bias = self.param("bias", nn.initializers.zeros, (vocabulary,))
    logits = jnp.einsum(
      "bph,vh->bpv",
      x,
      word_embedding.astype(config.dtype),
      preferred_element_type=jnp.float32,
    )
    return logits + bias


class EncoderModel(nn.Module):
  """An encoder without a head."""

  config: EncoderConfig

  def setup(self):
    self.encoder = Encoder(self.config)

  def __call__(
    self, batch: Batch, deterministic: bool = True
  ) -> Float[Array, "*rows length hidden"]:
    """A vector for each token."""
    return self.encoder(batch, deterministic)


class PretrainingOutputs(NamedTuple):
  """What the models with a masked-LM head return; logits are float32.

  `next_sentence` is None where there is no such head.
  """

  masked_lm: Float[Array, "batch predictions vocabulary"]
  next_sentence: Float[Array, "batch sequences 2"] | None


class MaskedLanguageModel(nn.Module):
  """An encoder with a masked-LM head."""

  config: EncoderConfig

  def setup(self):
    self.encoder = Encoder(self.config)
    self.masked_lm = MaskedLanguageHead(self.config)

  def __call__(
    self, batch: Batch, deterministic: bool = True
  ) -> PretrainingOutputs:
    """Scores the words at `batch.targets["masked_positions"]`.

    Only the masked positions go through the vocabulary projection, which at
    15 % masking saves six sevenths of it.
    """
    hidden = self.encoder(batch, deterministic)
    return PretrainingOutputs(self._score(hidden, batch), None)

  def _score(self, hidden, batch: Batch):
    positions = batch.targets["masked_positions"]
    masked = jnp.take_along_axis(hidden, positions[:, :, None], axis=1)
    return self.masked_lm(masked, self.encoder.embeddings.word.embedding)


class PretrainingModel(MaskedLanguageModel):
  """An encoder with BERT's masked-LM and next-sentence heads."""

  def setup(self):
    super().setup()
    self.pooler = _pooler(self.config)
    self.next_sentence = layers.Dense(self.config, 2, bias=True)

  def __call__(
    self, batch: Batch, deterministic: bool = True
  ) -> PretrainingOutputs:
    """Scores the words at `batch.targets["masked_positions"]`, and the pairs.

    A row has so many pairs as `batch.targets["next_sentence_labels"]` has
    slots, or one where there are no such targets.
    """
    hidden = self.encoder(batch, deterministic)
    labels = batch.targets.get("next_sentence_labels")
    count = 1 if labels is None else labels.shape[1]
    pooled = self.pooler(pooling.pool_each(self.config, hidden, batch, count))
    return PretrainingOutputs(
      masked_lm=self._score(hidden, batch),
      next_sentence=self.next_sentence(pooled).astype(jnp.float32),
    )


class SequenceClassifier(nn.Module):
  """An encoder with logits for each sequence.

  Attributes:
    config: the encoder's.
    num_labels: how many logits.
  """

  config: EncoderConfig
  num_labels: int

  def setup(self):
    self.encoder = Encoder(self.config)
    self.pooler = _pooler(self.config)
    self.dropout = _dropout(self.config)
    self.classifier = layers.Dense(self.config, self.num_labels, bias=True)

  def __call__(
    self, batch: Batch, deterministic: bool = True
  ) -> Float[Array, "*rows labels"]:
    """Scores the labels; float32."""
    hidden = self.encoder(batch, deterministic)
    pooled = self.pooler(pooling.pool(self.config, hidden, batch))
    logits = self.classifier(self.dropout(pooled, deterministic))
    return logits.astype(jnp.float32)


class MultipleChoiceModel(SequenceClassifier):
  """An encoder with one logit for each of a row's choices.

  The four id arrays of the batch are [batch, choices, length].
  """

  num_labels: int = 1

  def __call__(
    self, batch: Batch, deterministic: bool = True
  ) -> Float[Array, "batch choices"]:
    """Scores the choices; float32."""
    return super().__call__(batch, deterministic).squeeze(-1)


class TokenClassifier(nn.Module):
  """An encoder with logits for each token.

  Attributes:
    config: the encoder's.
    num_labels: how many logits.
    has_transform: whether a dense layer and the activation come before, as in
      ELECTRA's discriminator; with the config's head_norm they always do.
  """

  config: EncoderConfig
  num_labels: int
  has_transform: bool = False

  def setup(self):
    config = self.config
    self.encoder = Encoder(config)
    if self.has_transform or config.head_norm:
      self.transform = Transform(
        config, config.hidden_size, config.activation, config.head_norm
      )
    self.dropout = _dropout(config)
    self.classifier = layers.Dense(config, self.num_labels, bias=True)

  def __call__(
    self, batch: Batch, deterministic: bool = True
  ) -> Float[Array, "batch length labels"]:
    """Scores the labels; float32."""
    hidden = self.encoder(batch, deterministic)
    if self.has_transform or self.config.head_norm:
      hidden = self.transform(hidden)
    logits = self.classifier(self.dropout(hidden, deterministic))
    return logits.astype(jnp.float32)


class JointOutputs(NamedTuple):
  """What `JointClassifier` returns; logits are float32."""

  intents: Float[Array, "batch intents"]
  slots: Float[Array, "batch length slots"]


class JointClassifier(nn.Module):
  """An encoder with logits for each sequence and for each of its tokens.

  Joint intent classification and slot filling of Chen et al. (2019,
  arXiv:1902.10909), without the CRF.

  Attributes:
    config: the encoder's.
    num_intents: how many logits a sequence has.
    num_slots: how many logits a token has.
  """

  config: EncoderConfig
  num_intents: int
  num_slots: int

  def setup(self):
    self.encoder = Encoder(self.config)
    self.pooler = _pooler(self.config)
    self.dropout = _dropout(self.config)
    self.intent = layers.Dense(self.config, self.num_intents, bias=True)
    self.slots = layers.Dense(self.config, self.num_slots, bias=True)

  def __call__(self, batch: Batch, deterministic: bool = True) -> JointOutputs:
    """Scores intents and slots."""
    hidden = self.encoder(batch, deterministic)
    pooled = self.pooler(pooling.pool(self.config, hidden, batch))
    intents = self.intent(self.dropout(pooled, deterministic))
    slots = self.slots(self.dropout(hidden, deterministic))
    return JointOutputs(intents.astype(jnp.float32), slots.astype(jnp.float32))


def pooler_shapes(config: EncoderConfig) -> Parameters:
  """Shape structs of a pooler, which encoders are published with."""

  def initial():
    hidden = jnp.zeros((1, config.hidden_size))
    return _pooler(config).init(jax.random.key(0), hidden)

  return {"pooler": jax.eval_shape(initial)["params"]}


def _pooler(config: EncoderConfig) -> Transform:
  return Transform(
    config, config.hidden_size, config.pooler_activation, config.head_norm
  )


def _dropout(config: EncoderConfig) -> Dropout:
  """What goes before the logits of a head for fine-tuning."""
  rate = config.head_dropout
  return Dropout(config.hidden_dropout if rate is None else rate)

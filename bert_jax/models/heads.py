"""Heads, and the module of an encoder with heads."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bert_jax.models import layers, pooling
from bert_jax.models.activations import ACTIVATIONS
from bert_jax.models.config import EncoderConfig
from bert_jax.models.dropout import Dropout
from bert_jax.models.encoder import Encoder
from bert_jax.models.exits import head_name
from bert_jax.models.pooling import VectorModule
from bert_jax.types import Batch, Parameters

_IMPOSSIBLE = -1e30
"""A logit whose probability is 0."""

Head = nn.Module
MakeHead = Callable[[EncoderConfig], Head]
"""From a config to a head: a module that maps `Encoded` to outputs."""


class Transform(nn.Module):
  """A dense layer with an activation, before the output layer of a head.

  Attributes:
    config: the encoder's configuration.
    features: the width of the dense layer.
    activation: a name in `activations.ACTIVATIONS`.
    has_norm: whether a norm follows.
    has_dense: whether there is the dense layer.
  """

  config: EncoderConfig
  features: int
  activation: str
  has_norm: bool
  has_dense: bool = True

  @nn.compact
  def __call__(
    self, x: Float[Array, "*rows hidden"]
  ) -> Float[Array, "*rows features"]:
    """Applies the dense layer, the activation and the norm."""
    if self.has_dense:
      x = layers.Dense(self.config, self.features, name="dense")(x)
    x = ACTIVATIONS[self.activation](x)
    return layers.LayerNorm(self.config, name="norm")(x) if self.has_norm else x


class EncoderWithHeads(nn.Module):
  """An encoder with any number of heads.

  There may be heads after lower layers too, early exits: `exit_0_classifier` is
  that of `classifier` after the first layer.

  Heads share the pooler, the transform of token vectors and the dropout. The
  pooler and the transform have parameters only if a head uses them. The top
  level of the parameters has the names of the heads, `encoder`, `pooler` and
  `transform`.

  Attributes:
    config: the encoder's configuration.
    heads: a function that makes each head, by name.
    exits: the layers with early exits after them, from 0.
  """

  config: EncoderConfig
  heads: Mapping[str, MakeHead]
  exits: tuple[int, ...] = ()

  def setup(self):
    config = self.config
    self.encoder = Encoder(config)
    self.pooler = _pooler(config)
    activation = config.activation
    if config.head_norm:
      activation = config.head_activation or activation
    self.transform = Transform(
      config, config.hidden_size, activation, config.head_norm
    )
    rate = config.head_dropout
    self.dropout = Dropout(config.hidden_dropout if rate is None else rate)
    for name, make in self.heads.items():
      setattr(self, name, make(config))
      for layer in self.exits:
        setattr(self, head_name(layer, name), make(config))

  def __call__(
    self,
    batch: Batch,
    deterministic: bool = True,
    exits: bool | None = None,
  ) -> dict[str, Any]:
    """The outputs of every head, by name.

    Args:
      batch: the input. Heads may read targets such as the masked positions, but
        no labels.
      deterministic: whether dropout is off; otherwise the PRNG `dropout` is
        needed.
      exits: whether the outputs of early exits are among them; by default
        where dropout is on, in training.
    """
    if exits is None:
      exits = not deterministic or self.is_initializing()
    if not exits or not self.exits:
      hidden = self.encoder(batch, deterministic)
      return self._outputs(batch, hidden, deterministic)
    found = self.encoder(batch, deterministic, hidden_states=True)
    outputs = self._outputs(batch, found.last_hidden_state, deterministic)
    for layer in self.exits:
      hidden = self.encoder.normalized(found.hidden_states[layer + 1])
      outputs |= self._outputs(batch, hidden, deterministic, layer)
    return outputs

  def part(
    self,
    batch: Batch,
    x: Float[Array, "rows length hidden"] | None,
    first: int,
    last: int,
    exit: int | None,
  ) -> tuple[Float[Array, "rows length hidden"], dict[str, Any]]:
    """A part of the layers, and the outputs of the heads after it.

    Args:
      batch: see `Encoder.layers`, as all others.
      x: the output of the layer before.
      first: the first layer.
      last: one past the last.
      exit: the layer whose heads these are; None for those of the last one.
    """
    x = self.encoder.layers(batch, x, first, last)
    return x, self._outputs(batch, self.encoder.normalized(x), True, exit)

  def _outputs(
    self,
    batch: Batch,
    hidden: Float[Array, "*rows length hidden"],
    deterministic: bool,
    exit: int | None = None,
  ) -> dict[str, Any]:
    """The outputs of the heads after one layer."""
    encoded = Encoded(self, batch, hidden, deterministic)
    names = (
      name if exit is None else head_name(exit, name) for name in self.heads
    )
    return {name: getattr(self, name)(encoded) for name in names}


class Encoded:
  """An encoded batch, the input of heads.

  Attributes:
    batch: the input.
    hidden: the vector of each token, [*rows, length, hidden], in the config's
      dtype.
  """

  def __init__(
    self,
    module: EncoderWithHeads,
    batch: Batch,
    hidden: Float[Array, "*rows length hidden"],
    deterministic: bool,
  ):
    self.batch, self.hidden = batch, hidden
    self._module, self._deterministic = module, deterministic

  @property
  def word_embedding(self) -> Float[Array, "vocabulary width"]:
    """The word embedding, for tied decoders."""
    return self._module.encoder.embeddings.word.embedding

  def pooled(self) -> Float[Array, "*rows hidden"]:
    """The output of the pooler for each row."""
    config = self._module.config
    return self._module.pooler(pooling.pool(config, self.hidden, self.batch))

  def pooled_sequences(
    self, count: int
  ) -> Float[Array, "batch sequences hidden"]:
    """The output of the pooler for up to `count` packed sequences per row."""
    config = self._module.config
    return self._module.pooler(
      pooling.pool_each(config, self.hidden, self.batch, count)
    )

  def transformed(self) -> Float[Array, "*rows length hidden"]:
    """The output of the shared transform for each token."""
    return self._module.transform(self.hidden)

  def dropout(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Applies the dropout that precedes the output layers of heads."""
    return self._module.dropout(x, self._deterministic)


class OutputLayer(layers.Dense):
  """The output layer of a head, in float32, so that no logits are rounded."""

  dtype: str | None = "float32"


class SequenceHead(OutputLayer):
  """Logits for each row, from the output of the pooler."""

  def __call__(self, encoded: Encoded) -> Float[Array, "*rows features"]:
    """Float32 logits."""
    return super().__call__(encoded.dropout(encoded.pooled()))


class TokenHead(OutputLayer):
  """Logits for each token.

  Attributes:
    has_transform: whether the shared transform is applied first, as in the
      discriminator of ELECTRA; always the case with `config.head_norm`.
  """

  has_transform: bool = False

  def __call__(self, encoded: Encoded) -> Float[Array, "*rows length features"]:
    """Float32 logits."""
    x = encoded.hidden
    if self.has_transform or self.config.head_norm:
      x = encoded.transformed()
    return super().__call__(encoded.dropout(x))


class HiddenStates(nn.Module):
  """A head without parameters that returns the last hidden states."""

  def __call__(self, encoded: Encoded) -> Float[Array, "*rows length hidden"]:
    """The vectors of tokens, in the config's dtype."""
    return encoded.hidden


class VectorHead(nn.Module):
  """A vector for each row: pooled tokens, then modules; in float32.

  The parameters of module `i` are under `dense_i` or `layer_norm_i`.

  Attributes:
    config: the encoder's configuration.
    pooling: names in `pooling.MODES`, whose vectors are concatenated.
    modules: applied in this order.
    skipped: the name of a target that tells how many tokens of each row are not
      pooled; all are where it is missing.
  """

  config: EncoderConfig
  pooling: tuple[str, ...]
  modules: tuple[VectorModule, ...]
  skipped: str

  @nn.compact
  def __call__(self, encoded: Encoded) -> Float[Array, "*rows width"]:
    """Float32 vectors."""
    batch = encoded.batch
    skipped = batch.targets.get(self.skipped)
    x = pooling.pool_tokens(
      encoded.hidden, batch.sequence_ids, self.pooling, skipped
    )
    for index, module in enumerate(self.modules):
      name = f"{module.kind}_{index}"
      if module.kind == "normalize":
        x = pooling.unit(x)
      elif module.kind == "layer_norm":
        # The epsilon of PyTorch.
        x = nn.LayerNorm(1e-5, use_fast_variance=False, name=name)(x)
      else:
        dense = OutputLayer(
          self.config, module.features, bias=module.bias, name=name
        )
        x = ACTIVATIONS[module.activation](dense(x))
    return x


class NextSentenceHead(OutputLayer):
  """Logits for each sequence of a row: 0 is a true next sentence, 1 random."""

  def __call__(self, encoded: Encoded) -> Float[Array, "batch sequences 2"]:
    """Float32 logits.

    The number of sequences is that of the target `next_sentence/labels`; 1
    without it.
    """
    labels = encoded.batch.targets.get("next_sentence/labels")
    count = 1 if labels is None else labels.shape[1]
    return super().__call__(encoded.pooled_sequences(count))


class MaskedLanguageHead(nn.Module):
  """Logits over the vocabulary.

  The decoder is the word embedding, or with `tied_decoder=False` a parameter.
  Only the positions in the target `masked_lm/positions` are projected. With
  15 % masked tokens, this saves six sevenths of the projection.
  """

  config: EncoderConfig

  def setup(self):
    config = self.config
    shape = (config.vocab_rows, config.embedding_size or config.hidden_size)
    activation = config.head_activation or config.activation
    self.transform = Transform(config, shape[1], activation, True)
    self.bias = self.param("bias", nn.initializers.zeros, shape[:1])
    if not config.tied_decoder:
      initializer = layers.initializer(config)
      self.decoder = self.param("decoder", initializer, shape)

  def __call__(
    self, encoded: Encoded
  ) -> Float[Array, "batch predictions vocabulary"]:
    """Float32 logits at each masked position, see `logits`."""
    positions = encoded.batch.targets["masked_lm/positions"]
    hidden = jnp.take_along_axis(encoded.hidden, positions[:, :, None], axis=1)
    decoder = encoded.word_embedding
    if not self.config.tied_decoder:
      decoder = self.decoder
    return self.logits(hidden, decoder)

  def logits(
    self,
    hidden: Float[Array, "*rows hidden"],
    decoder: Float[Array, "..."],
    transposed: bool = False,
  ) -> Float[Array, "*rows vocabulary"]:
    """Float32 logits of tokens with these vectors.

    Those of rows that only pad the word embedding give no probability.

    Args:
      hidden: the vectors of the encoder.
      decoder: the word embedding, or the parameter of the same name,
        [vocabulary, width].
      transposed: whether it is [width, vocabulary], which products of few rows
        read faster on CPUs.
    """
    config = self.config
    logits = jnp.einsum(
      "...h,hv->...v" if transposed else "...h,vh->...v",
      self.transform(hidden),
      decoder.astype(config.dtype),
      preferred_element_type=jnp.float32,
    )
    logits += self.bias
    if config.vocab_rows == config.vocab_size:
      return logits
    is_token = jnp.arange(config.vocab_rows) < config.vocab_size
    return jnp.where(is_token, logits, _IMPOSSIBLE)


def pooler_shapes(config: EncoderConfig) -> Parameters:
  """Shape structs of the parameters of a pooler."""

  def initial():
    hidden = jnp.zeros((1, config.hidden_size))
    return _pooler(config).init(jax.random.key(0), hidden)

  return {"pooler": jax.eval_shape(initial)["params"]}


def _pooler(config: EncoderConfig) -> Transform:
  return Transform(
    config,
    config.hidden_size,
    config.pooler_activation,
    config.head_norm,
    config.pooler_projection,
  )

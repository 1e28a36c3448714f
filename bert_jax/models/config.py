"""The configuration of an encoder."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from bert_jax import settings
from bert_jax.models.activation_names import NAMES
from bert_jax.models.presets import PRESETS

RUNTIME_FIELDS = (
  "attention",
  "attention_dropout_broadcast",
  "dense_dtype",
  "dtype",
  "head_dropout",
  "remat",
)
"""The fields of `EncoderConfig` that do not change which model it is."""

_MAY_BE_ZERO = {
  "num_segments",
  "embedding_size",
  "position_offset",
  "local_window",
  "relative_buckets",
  "head_size",
}
_MAX_LAYERS = 1000
_OPTIONS = {
  "activation": NAMES,
  "dtype": ("float32", "bfloat16"),
  "dense_dtype": ("", "int8"),
  "attention": ("auto", "xla", "cudnn", "splash", "short"),
  "attention_dropout_broadcast": ("none", "rows", "queries"),
  "pooling": ("first", "mean", "last"),
  "remat": ("none", "minimal", "full"),
  "pooler_activation": NAMES,
  "head_activation": ("", *NAMES),
}


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
  """The sizes and switches of an encoder; the defaults are BERT-base.

  One encoder implements every family: the fields from `family` on are the
  differences from BERT.

  Attributes:
    vocab_size: the number of tokens.
    hidden_size: the width of the vector of a token.
    num_layers: Transformer layers.
    num_heads: attention heads; must divide hidden_size, unless there is a
      head_size.
    intermediate_size: the inner width of a feed-forward block.
    max_positions: the maximum length of a sequence, in tokens.
    num_segments: rows of the segment embedding; 0 for none.
    activation: `gelu` (exact, with erf: the first release, Hugging Face),
      `gelu_tanh` (Google's repository since 2019, keras-hub), or another name
      in `models.activation_names.NAMES`, such as `relu` or `silu`.
    hidden_dropout: the dropout rate after the embeddings and each block.
    attention_dropout: the dropout rate of attention weights.
    attention_dropout_broadcast: the axes over which the dropout mask of
      attention weights is broadcast. `none`: each weight is dropped
      independently, as in BERT; `rows`: one mask for all rows and heads, as in
      the Flax models of Transformers; `queries`: one mask for all queries of a
      row and head, which drops whole value vectors and needs the fewest random
      bits. Every attention backend supports `queries`; only `xla` and `short`
      support the others.
    head_dropout: the dropout rate before the output layer of fine-tuning
      heads; None is hidden_dropout.
    layer_dropouts: the dropout rate after the blocks of each layer, lowest
      layer first, in place of hidden_dropout; empty is hidden_dropout for all.
    layer_norm_epsilon: added to the variance.
    initializer_range: the standard deviation of the truncated normal from
      which kernels and embeddings are initialized.
    dtype: the dtype of activations, `float32` or `bfloat16`; parameters,
      softmax and LayerNorm statistics are float32.
    dense_dtype: the dtype in which dense layers multiply, but for the output
      layers of heads; empty is dtype. `int8`: activations are rounded to 8 bits
      with a scale for each token, kernels with one for each output feature
      (dynamic quantization), and gradients pass the rounding. Products of
      attention stay in dtype.
    attention: the attention backend: `xla` (plain `jax.numpy`, on all devices),
      `cudnn` (fused kernels on NVIDIA GPUs, in bfloat16), `splash` and `short`
      (Pallas kernels on TPUs: JAX's for any length, and one of this package
      for up to 512 tokens; interpreted on CPUs, for tests), or `auto`, the
      fastest that supports the call: see `models.attention.backends`.
    family: the family whose parameter names other libraries' files have, a key
      of `interop.families.FAMILIES`; it does not change the computation.
    embedding_size: the width of the embeddings, if a projection to hidden_size
      follows (ALBERT, ELECTRA); 0 for no projection.
    position_offset: the row of the position embedding of position 0 (RoBERTa:
      2).
    shared_layers: whether layers share their parameters (ALBERT).
    layer_groups: with shared_layers, the number of groups of consecutive
      layers that share parameters.
    group_layers: with shared_layers, the number of different layers in a group,
      which are applied in turn.
    biases: whether dense layers and norms have biases; output layers of heads
      always have one (ModernBERT: False).
    pre_norm: whether blocks normalize their input instead of the sum with
      their output; the first attention does not, as the embeddings are
      normalized.
    gated: whether the feed-forward block multiplies the activation by a second
      projection (GeGLU: Shazeer 2020, arXiv:2002.05202).
    rotary_base: above 0, queries and keys are rotated by position (RoPE: Su
      et al. 2021, arXiv:2104.09864) instead of a position embedding; the base
      of the wavelengths.
    local_window: above 0, tokens of local layers attend to tokens at most
      half of it away.
    local_rotary_base: the rotary base of local layers.
    global_every: with a local_window, layers 0, N, 2N ... are not local.
    relative_buckets: above 0, attention scores depend on the distance of
      tokens: a weight for each head and bucket of distances is added to those
      of all layers (MPNet, as in T5: Raffel et al. 2020, arXiv:1910.10683); the
      number of buckets, of both directions. Only the attention backend `xla`
      supports it.
    disentangled: whether the relative_buckets are embeddings instead, which
      replace the position embedding: attention scores are the sum of products
      of contents, of content and position and of position and content
      (DeBERTa-v3: He et al. 2021, arXiv:2111.09543).
    pooling: the input of the pooler: the `first` token, the `mean` of all, or
      the `last` token.
    pooler_activation: `tanh`, `gelu` (ELECTRA), `relu` (DistilBERT) or another
      activation.
    pooler_projection: whether the pooler has a dense layer before its
      activation (ELECTRA: `summary_use_proj`).
    head_norm: whether every head starts with a dense layer, an activation and
      a norm (ModernBERT).
    head_activation: the activation in masked-LM heads, and with head_norm in
      every head; empty is `activation`.
    tied_decoder: whether the decoder of a masked-LM head is the word embedding.
    remat: rematerialization in the backward pass, to save memory: `none`;
      `minimal` saves the matrix products of a layer, except those of the
      attention weights; `full` saves only the input of a layer.
    head_size: the width of a head; 0 is hidden_size / num_heads.
    layer_heads: the heads of each layer, if they differ, as after pruning.
    layer_intermediate_sizes: the inner width of each layer, if they differ.
    vocab_multiple: rounds the rows of the word embedding up, so that they
      divide over devices and fill their tiles (128, for example). The
      additional rows are no tokens: they get no probability, and are not in
      what is saved for Transformers.
  """

  vocab_size: int = 30522
  hidden_size: int = 768
  num_layers: int = 12
  num_heads: int = 12
  intermediate_size: int = 3072
  max_positions: int = 512
  num_segments: int = 2
  activation: str = "gelu"
  hidden_dropout: float = 0.1
  attention_dropout: float = 0.1
  attention_dropout_broadcast: str = "none"
  head_dropout: float | None = None
  layer_dropouts: tuple[float, ...] = ()
  layer_norm_epsilon: float = 1e-12
  initializer_range: float = 0.02
  dtype: str = "float32"
  dense_dtype: str = ""
  attention: str = "auto"
  family: str = "bert"
  embedding_size: int = 0
  position_offset: int = 0
  shared_layers: bool = False
  layer_groups: int = 1
  group_layers: int = 1
  biases: bool = True
  pre_norm: bool = False
  gated: bool = False
  rotary_base: float = 0.0
  local_window: int = 0
  local_rotary_base: float = 0.0
  global_every: int = 1
  relative_buckets: int = 0
  disentangled: bool = False
  pooling: str = "first"
  pooler_activation: str = "tanh"
  pooler_projection: bool = True
  head_norm: bool = False
  head_activation: str = ""
  tied_decoder: bool = True
  remat: str = "none"
  head_size: int = 0
  layer_heads: tuple[int, ...] = ()
  layer_intermediate_sizes: tuple[int, ...] = ()
  vocab_multiple: int = 1

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value, least = getattr(self, field.name), field.name not in _MAY_BE_ZERO
      if field.type is int and value < least:
        raise ValueError(
          f"{field.name}: expected at least {int(least)}, got {value}"
        )
    if self.num_layers > _MAX_LAYERS:
      raise ValueError(
        f"num_layers: expected at most {_MAX_LAYERS}, got {self.num_layers}"
      )
    for name, options in _OPTIONS.items():
      if getattr(self, name) not in options:
        raise ValueError(
          f"{name}: expected one of {', '.join(options)},"
          f" got {getattr(self, name)!r}"
        )
    for name in ("hidden_dropout", "attention_dropout", "head_dropout"):
      if not 0 <= (getattr(self, name) or 0) < 1:
        raise ValueError(
          f"{name}: expected a rate in [0, 1), got {getattr(self, name)}"
        )
    for rate in self.layer_dropouts:
      if not 0 <= rate < 1:
        raise ValueError(
          f"layer_dropouts: expected rates in [0, 1), got {rate}"
        )
    self._check_together()

  @property
  def vocab_rows(self) -> int:
    """The rows of the word embedding."""
    return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple

  @property
  def has_position_embedding(self) -> bool:
    """Whether the embeddings of tokens depend on their positions."""
    return not self.rotary_base and not self.disentangled

  @property
  def head_width(self) -> int:
    """The width of the queries, keys and values of a head."""
    return self.head_size or self.hidden_size // self.num_heads

  def of_layer(self, index: int) -> "EncoderConfig":
    """The sizes of one layer, as `num_heads` and `intermediate_size`."""
    if not (self.layer_heads or self.layer_intermediate_sizes):
      return self
    heads, inner = self.layer_heads, self.layer_intermediate_sizes
    return dataclasses.replace(
      self,
      num_heads=heads[index] if heads else self.num_heads,
      intermediate_size=inner[index] if inner else self.intermediate_size,
      head_size=self.head_width,
      layer_heads=(),
      layer_intermediate_sizes=(),
    )

  def _check_together(self):
    shared = self.attention_dropout_broadcast == "queries"
    drops_weights = self.attention_dropout and not shared
    rates = len(self.layer_dropouts)
    sizes = (self.layer_heads, self.layer_intermediate_sizes)
    differ = self.pre_norm or self.local_window or rates or any(sizes)
    has_local = bool(self.rotary_base and self.local_window)
    distinct = self.layer_groups * self.group_layers
    divides = self.num_layers % self.group_layers == 0
    for wrong, message in (
      (
        drops_weights and self.attention in ("cudnn", "splash"),
        f"attention: {self.attention} has no dropout of attention weights; set"
        " attention_dropout to 0, or attention_dropout_broadcast to queries",
      ),
      (
        self.attention == "cudnn" and self.dtype == "float32",
        "attention: cudnn needs the dtype bfloat16, got float32",
      ),
      (
        not self.head_size and self.hidden_size % self.num_heads,
        f"num_heads: {self.num_heads} heads do not divide hidden_size"
        f" {self.hidden_size}",
      ),
      (
        self.rotary_base and self.head_width % 2,
        f"rotary_base: needs heads of an even width, got {self.head_width}",
      ),
      (
        rates and rates != self.num_layers,
        f"layer_dropouts: {rates} rates for {self.num_layers} layers",
      ),
      (
        self.shared_layers and differ,
        "shared_layers: with pre_norm, local_window, layer_dropouts,"
        " layer_heads or layer_intermediate_sizes, layers differ",
      ),
      (
        any(
          len(x) not in (0, self.num_layers) or min(x, default=1) < 1
          for x in sizes
        ),
        f"layer_heads, layer_intermediate_sizes: expected {self.num_layers}"
        f" numbers of at least 1, got {[*map(list, sizes)]}",
      ),
      (
        self.relative_buckets and self.layer_heads,
        "layer_heads: relative_buckets have weights for the heads of all"
        " layers",
      ),
      (
        distinct > 1 and not self.shared_layers,
        "layer_groups: groups of layers need shared_layers",
      ),
      (
        distinct > self.num_layers or not divides,
        f"layer_groups: {self.layer_groups} groups of {self.group_layers}"
        f" layers do not fit num_layers {self.num_layers}",
      ),
      (
        has_local != bool(self.local_rotary_base),
        "local_rotary_base: goes with both rotary_base and local_window",
      ),
      (
        self.relative_buckets % 4,
        "relative_buckets: expected a multiple of 4, got"
        f" {self.relative_buckets}",
      ),
      (
        self.disentangled and not self.relative_buckets,
        "disentangled: needs relative_buckets",
      ),
      (
        self.disentangled and self.rotary_base,
        "disentangled: does not go with rotary_base",
      ),
    ):
      if wrong:
        raise ValueError(message)

  @property
  def distinct_layers(self) -> int:
    """The number of layers with different parameters."""
    if self.shared_layers:
      return self.layer_groups * self.group_layers
    return self.num_layers

  def distinct_layer(self, index: int) -> int:
    """The number of the distinct layer that is applied as layer `index`."""
    if not self.shared_layers:
      return index
    step, place = divmod(index, self.group_layers)
    steps = self.num_layers // self.group_layers
    return step * self.layer_groups // steps * self.group_layers + place


def encoder_config(
  section: Mapping[str, Any], where: str = "config.model"
) -> EncoderConfig:
  """An `EncoderConfig` from a config section.

  The fields in `section` override those of the preset that its key `preset`
  may name. `where` is the key of the section, for messages.

  Raises:
    UserError: an unknown preset or key, or an invalid value.
  """
  fields = dict(section)
  preset = fields.pop("preset", None)
  if preset is not None:
    fields = {**settings.choice(f"{where}.preset", preset, PRESETS), **fields}
  return settings.from_dict(EncoderConfig, fields, where)

"""The encoder: embeddings and a stack of layers."""

import flax.linen as nn
from jaxtyping import Array, Float

from bert_jax.models import layers
from bert_jax.models.config import EncoderConfig
from bert_jax.types import Batch


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
    self.layer = [layers.Layer(config, index) for index in range(count)]
    if config.pre_norm:
      self.final_norm = layers.LayerNorm(config)

  def __call__(
    self, batch: Batch, deterministic: bool = True
  ) -> Float[Array, "batch length hidden"]:
    """Encodes a batch.

    Args:
      batch: the input; its targets are not looked at.
      deterministic: whether dropout is off; when on, the `dropout` PRNG is
        needed.

    Returns:
      A vector for each token, in the config's dtype.
    """
    config = self.config
    x = self.embeddings(batch, deterministic)
    for index in range(config.num_layers):
      layer = self.layer[0 if config.shared_layers else index]
      x = layer(x, batch, deterministic)
    return self.final_norm(x) if config.pre_norm else x

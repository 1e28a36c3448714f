"""The encoder: embeddings and a stack of layers."""

import flax.linen as nn
from jaxtyping import Array, Float

from bert_jax.models import layers
from bert_jax.models.config import EncoderConfig
from bert_jax.types import Batch


class Encoder(nn.Module):
  """BERT's encoder (Devlin et al. 2018, arXiv:1810.04805).

  Layers are unrolled as `layer_0` ... `layer_{L-1}`: their parameters carry
  the names of the published checkpoints, and LAMB sees one leaf a layer.
  """

  config: EncoderConfig

  def setup(self):
    self.embeddings = layers.Embeddings(self.config)
    self.layer = [
      layers.Layer(self.config) for _ in range(self.config.num_layers)
    ]

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
    x = self.embeddings(
      batch.token_ids, batch.segment_ids, batch.position_ids, deterministic
    )
    for layer in self.layer:
      x = layer(x, batch.sequence_ids, deterministic)
    return x

"""Low-rank adaptation, LoRA (Hu et al. 2021, arXiv:2106.09685).

A kernel W becomes W + (alpha / rank) A B, of which only A and B are trained.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from bert_jax import settings, trees
from bert_jax.models.config import EncoderConfig
from bert_jax.models.low_rank import LowRank
from bert_jax.training import finetuning
from bert_jax.training.parametrizations.parametrization import Parametrization
from bert_jax.types import Parameters


@dataclasses.dataclass(frozen=True)
class LoraConfig:
  """The section `config.lora`; by default nothing is adapted.

  Heads are trained as always, and the encoder is frozen.

  Attributes:
    rank: of A B; 0 trains the encoder itself.
    alpha: A B is added times alpha / rank.
    targets: regular expressions; the kernels whose whole path matches one of
      them are adapted.
  """

  rank: int = 0
  alpha: float = 16.0
  targets: tuple[str, ...] = (
    r"encoder/layer_\d+/attention/(query|value)/kernel",
  )

  def __post_init__(self):
    settings.check(self, "at least 0", lambda x: x >= 0, "rank")
    settings.check(self, "above 0", lambda x: x > 0, "alpha")

  def parametrization(self, encoder: EncoderConfig) -> "Lora | None":
    """The adapters, if there are any."""
    del encoder
    return Lora(self) if self.rank else None


class Lora(Parametrization):
  """Adapters of kernels.

  Under `lora` each adapted kernel [width, features] has, at its own path, `a`
  [width, rank] and `b` [rank, features].
  """

  name = "lora"

  def __init__(self, config: LoraConfig):
    """Makes adapters of a rank above 0."""
    self._config = config

  def shapes(self, params: Parameters) -> Parameters:
    """Shape structs of the adapters.

    Args:
      params: a model's parameters or their shape structs.

    Raises:
      UserError: a pattern matches no parameter, or one that is no kernel.
    """
    config = self._config
    mask = finetuning.matching(params, config.targets, "config.lora.targets")
    matched = trees.flatten(mask)
    flat: dict[str, jax.ShapeDtypeStruct] = {}
    for path, x in trees.flatten(params).items():
      if not matched[path]:
        continue
      if not path.endswith("/kernel") or len(x.shape) != 2:
        raise settings.UserError(
          f"config.lora.targets: expected kernels of dense layers, got {path}"
        )
      width, features = x.shape
      flat[f"{path}/a"] = jax.ShapeDtypeStruct((width, config.rank), x.dtype)
      flat[f"{path}/b"] = jax.ShapeDtypeStruct((config.rank, features), x.dtype)
    return trees.unflatten(flat)

  def value(self, path: str, shape: jax.ShapeDtypeStruct, key: Any) -> Any:
    """A is random and B is 0."""
    if path.endswith("/b"):
      return jnp.zeros(shape.shape, shape.dtype)
    # As in peft: of PyTorch's dense layers.
    bound = shape.shape[0] ** -0.5
    return jax.random.uniform(key, shape.shape, shape.dtype, -bound, bound)

  def merge(
    self, params: Parameters, own: Parameters, key: Any = None
  ) -> Parameters:
    """Adds A B to the kernels."""
    del key
    flat = trees.flatten(params)
    for path, (a, b, scale) in self.products(own).items():
      flat[path] = flat[path] + scale * (a @ b)
    return trees.unflatten(flat)

  def products(self, own: Parameters) -> dict[str, LowRank]:
    """What the adapters add to kernels, by the paths of these."""
    flat, scale = trees.flatten(own), self._config.alpha / self._config.rank
    kernels = [path.removesuffix("/a") for path in flat if path.endswith("/a")]
    return {
      path: LowRank(flat[f"{path}/a"], flat[f"{path}/b"], scale)
      for path in kernels
    }

  def freezes(self, path: str) -> bool:
    """The encoder is adapted; heads are trained as always."""
    return path.startswith("encoder/")

"""Low-rank adaptation, LoRA (Hu et al. 2021, arXiv:2106.09685).

A kernel W becomes W + (alpha / rank) A B, of which only A and B are trained.
The sums are computed from the parameters before the model is applied, so no
layer knows of them, and gradients flow to A and B.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from bert_jax import settings, trees
from bert_jax.training import finetuning
from bert_jax.types import Batch, Parameters

NAME = "lora"
"""The name of the adapters among the parameters."""


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

  @property
  def scale(self) -> float:
    """The factor of A B."""
    return self.alpha / self.rank


class Lora:
  """A module with adapters; its parameters are the module's and `lora`.

  Under `lora` each adapted kernel [width, features] has, at its own path, `a`
  [width, rank] and `b` [rank, features].
  """

  def __init__(self, module: Any, config: LoraConfig):
    """Wraps a module, such as that of a task."""
    self._module, self._config = module, config

  def init(self, key: Any, batch: Batch) -> dict[str, Parameters]:
    """The initial values: A is random and B is 0."""
    own_key, key = jax.random.split(key)
    params = self._module.init(key, batch)["params"]
    shapes = adapter_shapes(params, self._config)
    flat = trees.flatten(shapes)
    keys = jax.random.split(own_key, len(flat))
    made = {
      path: _initial(path, key, shape)
      for key, (path, shape) in zip(keys, flat.items())
    }
    return {"params": {**params, NAME: trees.unflatten(made)}}

  def apply(
    self, variables: Mapping[str, Parameters], *args: Any, **kwargs: Any
  ) -> Any:
    """Applies the module with the adapted kernels."""
    params = merge(variables["params"], self._config)
    return self._module.apply({"params": params}, *args, **kwargs)


def _initial(path: str, key: Any, shape: jax.ShapeDtypeStruct) -> Any:
  if path.endswith("/b"):
    return jnp.zeros(shape.shape, shape.dtype)
  # As in peft: of PyTorch's dense layers.
  bound = shape.shape[0] ** -0.5
  return jax.random.uniform(key, shape.shape, shape.dtype, -bound, bound)


def adapter_shapes(params: Parameters, config: LoraConfig) -> Parameters:
  """Shape structs of the adapters.

  Args:
    params: a model's parameters or their shape structs.
    config: which of them are adapted.

  Raises:
    UserError: a pattern matches no parameter, or one that is no kernel.
  """
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


def merge(params: Parameters, config: LoraConfig) -> Parameters:
  """The model's parameters: kernels with A B added, without the adapters."""
  own = {name: tree for name, tree in params.items() if name != NAME}
  flat, adapters = trees.flatten(own), trees.flatten(params[NAME])
  for path in adapters:
    kernel, _, part = path.rpartition("/")
    if part == "a":
      product = adapters[path] @ adapters[f"{kernel}/b"]
      flat[kernel] = flat[kernel] + config.scale * product
  return trees.unflatten(flat)


def frozen(params: Parameters) -> Parameters:
  """The mask of the parameters that adapters replace in training."""
  return trees.map_with_path(
    lambda path, _: path.startswith("encoder/"), params
  )

"""Parameters that are computed from others before the model is applied.

As in `torch.nn.utils.parametrize`: the model's parameters are a function of
what is trained, so no layer knows of it, and gradients flow through it. Who
loads such a run gets the computed parameters: an ordinary model.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import jax

from bert_jax import trees
from bert_jax.types import Batch, Parameters

if TYPE_CHECKING:
  import optax


class Parametrization(Protocol):
  """One way to compute a model's parameters from others.

  A section of the config makes one for an encoder: its dataclass has
  `parametrization(EncoderConfig) -> Parametrization | None`.

  Attributes:
    name: that of its section of the config, and of its own parameters among
      those of the model.
  """

  name: str

  def shapes(self, params: Parameters) -> Parameters:
    """Shape structs of its own parameters; `{}` if it has none.

    Args:
      params: a model's parameters or their shape structs.

    Raises:
      UserError: the settings do not fit the model.
    """
    ...

  def initial(self, key: Any, params: Parameters) -> Parameters:
    """The initial values of its own parameters; may be traced."""
    flat = trees.flatten(self.shapes(params))
    keys = jax.random.split(key, len(flat))
    return trees.unflatten(
      {
        path: self.value(path, shape, key)
        for key, (path, shape) in zip(keys, flat.items())
      }
    )

  def value(self, path: str, shape: jax.ShapeDtypeStruct, key: Any) -> Any:
    """The initial value of one of its own parameters.

    Args:
      path: of the parameter, under `name`.
      shape: of `shapes`.
      key: a JAX random key for it.
    """
    raise NotImplementedError

  def merge(
    self, params: Parameters, own: Parameters, key: Any = None
  ) -> Parameters:
    """The parameters that the model is applied with.

    Args:
      params: a model's parameters.
      own: those with the shapes of `shapes`.
      key: in training, a JAX random key; None otherwise.
    """
    ...

  def freezes(self, path: str) -> bool:
    """Whether a parameter of the model is not trained, as it is replaced."""
    del path
    return False

  def optimizer(self, steps: int) -> "optax.GradientTransformation | None":
    """What updates its own parameters; None if that of the model does.

    It takes and returns `{name: ...}`, with the own parameters alone.

    Args:
      steps: the number of updates of the run.
    """
    del steps
    return None

  def metrics(self, params: Parameters, own: Parameters) -> dict[str, float]:
    """Values for the log of evaluations.

    Args:
      params: a model's parameters.
      own: those with the shapes of `shapes`.
    """
    del params, own
    return {}

  def settled(self, steps: int) -> int:
    """The first step at which the model may be the best of the run.

    Args:
      steps: the number of updates of the run.
    """
    del steps
    return 0


class Parametrized:
  """A module whose parameters are computed by parametrizations.

  Its parameters are the module's, and those of each parametrization under its
  name.
  """

  def __init__(self, module: Any, parts: Sequence[Parametrization]):
    """Wraps a module, such as that of a task.

    Args:
      module: has `init` and `apply`, as a Linen module.
      parts: applied in this order.
    """
    self._module, self._parts = module, parts

  def init(self, key: Any, batch: Batch) -> dict[str, Parameters]:
    """`{"params": ...}` with initial values."""
    key, *keys = jax.random.split(key, 1 + len(self._parts))
    params = dict(self._module.init(key, batch)["params"])
    own = {
      part.name: part.initial(key, params)
      for part, key in zip(self._parts, keys)
    }
    return {"params": params | {name: x for name, x in own.items() if x}}

  def apply(
    self, variables: Mapping[str, Parameters], *args: Any, **kwargs: Any
  ) -> Any:
    """Applies the module with the computed parameters."""
    key = (kwargs.get("rngs") or {}).get("dropout")
    params = merge(variables["params"], self._parts, key)
    return self._module.apply({"params": params}, *args, **kwargs)


def shapes(
  params: Parameters, parts: Sequence[Parametrization]
) -> dict[str, Parameters]:
  """Shape structs of the parameters of parametrizations, by their names."""
  found = {part.name: part.shapes(params) for part in parts}
  return {name: x for name, x in found.items() if x}


def merge(
  params: Parameters, parts: Sequence[Parametrization], key: Any = None
) -> Parameters:
  """The model's parameters, without those of the parametrizations.

  Args:
    params: as of `Parametrized`.
    parts: its parametrizations.
    key: in training, a JAX random key; None otherwise.
  """
  made = _of_model(params, parts)
  for index, part in enumerate(parts):
    own = None if key is None else jax.random.fold_in(key, index)
    made = part.merge(made, params.get(part.name, {}), own)
  return made


def metrics(
  params: Parameters, parts: Sequence[Parametrization]
) -> dict[str, float]:
  """The metrics of parametrizations.

  Args:
    params: as of `Parametrized`.
    parts: its parametrizations.
  """
  made, found = _of_model(params, parts), {}
  for part in parts:
    own = params.get(part.name, {})
    found |= part.metrics(made, own)
    made = part.merge(made, own)
  return found


def _of_model(
  params: Parameters, parts: Sequence[Parametrization]
) -> dict[str, Any]:
  names = {part.name for part in parts}
  return {name: x for name, x in params.items() if name not in names}

"""Pruning while training: weights, attention heads or units become zeros.

A mask, which follows from scores, multiplies the kernels. In training the share
that is pruned grows with the steps to its target; then the mask stays as it is
and what is left is trained on.
"""

import abc
import dataclasses
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from bert_jax import settings, trees
from bert_jax.models.config import EncoderConfig
from bert_jax.training import finetuning
from bert_jax.training.parametrizations import gates
from bert_jax.training.parametrizations.parametrization import Parametrization
from bert_jax.training.parametrizations.ranking import lowest
from bert_jax.types import Parameters

if TYPE_CHECKING:
  import optax

METHODS = ("", "l0", "magnitude", "movement")
STRUCTURES = ("heads", "units")

# Of scores, so that no two are equal.
_SPREAD = 0.01


@dataclasses.dataclass(frozen=True)
class PruningConfig:
  """The section `config.pruning`; by default nothing is pruned.

  What is pruned is 0 in the trained model. Where it is whole heads and units,
  `bert-jax compress` then removes them.

  Attributes:
    method: how the pruned ones are chosen. `magnitude`: the smallest weights,
      or the heads and units with the smallest rows of output kernels (Zhu and
      Gupta 2017, arXiv:1710.01878). `movement`: by learned scores, which fall
      where training moves weights towards 0 (Sanh et al. 2020,
      arXiv:2005.07683; Lagunas et al. 2021, arXiv:2109.04838). `l0`: by learned
      hard concrete gates (Louizos et al. 2018, arXiv:1712.01312), driven to the
      target by Lagrange multipliers (CoFi: Xia et al. 2022, arXiv:2204.00408);
      heads and units only. Empty prunes nothing.
    sparsity: the share of the parameters that is pruned in the end, of those
      of the kernels of heads and units, or of the targets.
    structures: what is pruned as a whole, of `heads` and `units`; empty prunes
      single weights. One head and one unit of each layer stay.
    targets: regular expressions; single weights are pruned in the kernels
      whose whole path matches one of them.
    pattern: `n:m` leaves, of every m consecutive inputs of an output, the n
      weights with the highest scores; this gives the sparsity. Accelerators
      have sparse kernels for `2:4`.
    begin: the share of the steps at which pruning begins.
    end: the share of the steps at which the target is reached. The pruned share
      in between is cubic: most goes early. Only later evaluations may choose
      the best checkpoint.
    learning_rate: of gates and scores, whose optimizer is Adam. Gates of `l0`
      have to fall by about 5 until `end`; scores only need an order.
  """

  method: str = ""
  sparsity: float = 0.0
  structures: tuple[str, ...] = STRUCTURES
  targets: tuple[str, ...] = (r"encoder/layer_\d+/.+/kernel",)
  pattern: str = ""
  begin: float = 0.1
  end: float = 0.6
  learning_rate: float = 0.05

  def __post_init__(self):
    _check_one_of(self.method, METHODS, "method")
    for name in self.structures:
      _check_one_of(name, STRUCTURES, "structures")
    settings.check(self, "in [0, 1)", lambda x: 0 <= x < 1, "sparsity")
    settings.check(self, "above 0", lambda x: 0 < x < math.inf, "learning_rate")
    if not 0 <= self.begin < self.end <= 1:
      raise ValueError(
        "begin: expected shares of the steps, 0 <= begin < end <= 1, got"
        f" {self.begin} and {self.end}"
      )
    if not self.method:
      return
    if self.method == "l0" and not self.structures:
      raise ValueError(
        "structures: l0 prunes heads and units; for single weights the method"
        " is magnitude or movement"
      )
    if self.pattern:
      self._check_pattern()
    elif not self.sparsity:
      raise ValueError("sparsity: expected a share above 0, got 0")

  def _check_pattern(self):
    if self.structures:
      raise ValueError(
        "pattern: single weights have patterns; leave structures empty"
      )
    if self.sparsity:
      raise ValueError(
        f"sparsity: the pattern {self.pattern} gives it; leave it out"
      )
    kept, group = self.kept_of
    if not 0 < kept < group:
      raise ValueError(
        "pattern: expected n:m with 0 < n < m, such as 2:4, got"
        f" {self.pattern!r}"
      )

  @property
  def kept_of(self) -> tuple[int, int]:
    """The numbers n and m of the pattern; zeros if it is none."""
    found = re.fullmatch(r"(\d{1,4}):(\d{1,4})", self.pattern)
    return (int(found[1]), int(found[2])) if found else (0, 0)

  def parametrization(self, encoder: EncoderConfig) -> "Pruning | None":
    """The masks, if anything is pruned.

    Raises:
      UserError: the encoder cannot be pruned so.
    """
    if not self.method:
      return None
    if self.structures:
      return StructuredPruning(self, encoder)
    return WeightPruning(self)


class Pruning(Parametrization):
  """Masks that follow from scores; the lowest are pruned.

  Its own parameter `progress` rises from 0 to 1, when the target is reached.
  """

  name = "pruning"

  def __init__(self, config: PruningConfig):
    """Prunes as the section says."""
    self._config = config
    self._measure = jax.jit(self._measured)

  @abc.abstractmethod
  def _masks(
    self, params: Parameters, own: Parameters, key: Any
  ) -> Mapping[str, Array]:
    """What the parameters at some paths are multiplied with."""

  @abc.abstractmethod
  def _measured(self, params: Parameters, own: Parameters) -> Mapping[str, Any]:
    """The metrics."""

  def penalty(self, own: Parameters) -> Any:
    """A term of the loss that depends on its own parameters alone."""
    del own
    return jnp.zeros(())

  def progress(self, step: Any) -> Any:
    """A function of the share of the steps done, from 0 to 1."""
    config = self._config
    done = (step - config.begin) / (config.end - config.begin)
    return 1 - (1 - jnp.clip(done, 0, 1)) ** 3

  def value(self, path: str, shape: jax.ShapeDtypeStruct, key: Any) -> Any:
    """Scores that hardly differ."""
    if path in ("progress", "multipliers"):
      return jnp.zeros(shape.shape, shape.dtype)
    start = gates.START if self._config.method == "l0" else 0.0
    return start + _SPREAD * jax.random.normal(key, shape.shape, shape.dtype)

  def merge(
    self, params: Parameters, own: Parameters, key: Any = None
  ) -> Parameters:
    """Multiplies the kernels with the masks."""
    flat = trees.flatten(params)
    for path, mask in self._masks(params, own, key).items():
      flat[path] = flat[path] * mask.astype(flat[path].dtype)
    return trees.unflatten(flat)

  def optimizer(self, steps: int) -> "optax.GradientTransformation":
    """Learns the scores until the target is reached."""
    from bert_jax.training.optim import pruning

    return pruning.make(self, self._config.learning_rate, steps)

  def metrics(self, params: Parameters, own: Parameters) -> dict[str, float]:
    """`sparsity`: the share that is pruned now."""
    measured = self._measure(params, own)
    return {name: float(x) for name, x in measured.items()}

  def settled(self, steps: int) -> int:
    """When the target is reached."""
    return math.ceil(self._config.end * steps)


class _Group(NamedTuple):
  """The heads, or the units, of one layer.

  Attributes:
    path: of their scores.
    kernel: the path of the kernel whose rows are theirs.
    count: their number.
    width: rows of the kernel for each.
    cost: the parameters of each, in multiples of the hidden size.
  """

  path: str
  kernel: str
  count: int
  width: int
  cost: int


class StructuredPruning(Pruning):
  """Prunes whole heads and units, by their rows of output kernels.

  Own parameters: under `heads` and `units` for each layer `layer_i` scores
  [heads] or [units], unless the method is magnitude; the scalar `progress`; and
  of `l0` two `multipliers`.
  """

  def __init__(self, config: PruningConfig, encoder: EncoderConfig):
    """Finds what can be pruned.

    Raises:
      UserError: the layers share parameters, heads cannot be removed, or the
        sparsity cannot be reached.
    """
    super().__init__(config)
    if encoder.shared_layers:
      raise settings.UserError(
        "config.pruning: the layers of this encoder share their parameters;"
        " heads and units cannot be pruned"
      )
    if encoder.relative_buckets and "heads" in config.structures:
      raise settings.UserError(
        "config.pruning.structures: heads of an encoder with relative positions"
        " cannot be pruned, as all layers share their weights; give units alone"
      )
    self._groups = [
      group
      for index in range(encoder.num_layers)
      for group in _groups(encoder, index, config.structures)
    ]
    self._total = sum(x.cost * x.count for x in self._groups)
    self._goal = math.ceil(config.sparsity * self._total)
    most = sum(x.cost * (x.count - 1) for x in self._groups)
    if self._goal > most:
      raise settings.UserError(
        f"config.pruning.sparsity: {config.sparsity:g} cannot be reached; with"
        f" one of the {' and one of the '.join(config.structures)} left in each"
        f" layer it is at most {math.floor(1e3 * most / self._total) / 1e3:g}"
      )

  def shapes(self, params: Parameters) -> Parameters:
    """Shape structs of scores, progress and multipliers."""
    del params
    shapes: dict[str, tuple[int, ...]] = {"progress": ()}
    if self._config.method != "magnitude":
      shapes |= {group.path: (group.count,) for group in self._groups}
    if self._config.method == "l0":
      shapes["multipliers"] = (2,)
    return trees.unflatten(
      {path: jax.ShapeDtypeStruct(x, jnp.float32) for path, x in shapes.items()}
    )

  def _scores(self, params: Parameters, own: Parameters) -> list[Array]:
    if self._config.method != "magnitude":
      flat = trees.flatten(own)
      return [flat[group.path] for group in self._groups]
    flat = trees.flatten(params)
    return [
      jnp.square(flat[group.kernel]).reshape(group.count, -1).mean(-1)
      for group in self._groups
    ]

  def _kept(
    self, scores: list[Array], progress: Any
  ) -> list[Bool[Array, " items"]]:
    """All but the lowest; the highest of each layer stays."""
    ranked = [
      x.at[jnp.argmax(x)].set(jnp.inf)
      for x in map(jax.lax.stop_gradient, scores)
    ]
    costs = [group.cost for group in self._groups]
    pruned = lowest(ranked, costs, _now(self._goal, progress))
    return [~x for x in pruned]

  def _values(
    self, params: Parameters, own: Parameters, key: Any
  ) -> list[Float[Array, " items"]]:
    """Of each group, what its rows are multiplied with."""
    scores, progress = self._scores(params, own), own["progress"]
    kept = [
      x.astype(jnp.float32)
      for x in self._kept(scores, jax.lax.stop_gradient(progress))
    ]
    if self._config.method == "magnitude":
      return kept
    if self._config.method == "movement":
      # The gradient of the mask is that of the scores (straight-through).
      return [x + (s - jax.lax.stop_gradient(s)) for x, s in zip(kept, scores)]
    fixed = [x * gates.mean(s) for x, s in zip(kept, scores)]
    if key is None:
      return fixed
    keys = jax.random.split(key, len(scores))
    drawn = [gates.sample(s, key) for s, key in zip(scores, keys)]
    return [jnp.where(progress < 1, x, y) for x, y in zip(drawn, fixed)]

  def _masks(
    self, params: Parameters, own: Parameters, key: Any
  ) -> Mapping[str, Array]:
    values = self._values(params, own, key)
    return {
      group.kernel: jnp.repeat(value, group.width)[:, None]
      for group, value in zip(self._groups, values)
    }

  def penalty(self, own: Parameters) -> Any:
    """The Lagrangian of the expected sparsity, for `l0`."""
    if self._config.method != "l0":
      return super().penalty(own)
    progress = jax.lax.stop_gradient(own["progress"])
    difference = self._expected(own) - self._config.sparsity * progress
    first, second = own["multipliers"]
    return first * difference + second * difference**2

  def _expected(self, own: Parameters) -> Any:
    """The expected share of parameters whose gates are 0."""
    flat = trees.flatten(own)
    open_ = sum(
      group.cost * gates.probability(flat[group.path]).sum()
      for group in self._groups
    )
    return 1 - open_ / self._total

  def _measured(self, params: Parameters, own: Parameters) -> Mapping[str, Any]:
    values = self._values(params, own, None)
    pruned = sum(
      group.cost * (value == 0).sum()
      for group, value in zip(self._groups, values)
    )
    found = {"sparsity": pruned / self._total}
    if self._config.method == "l0":
      found["expected_sparsity"] = self._expected(own)
    return found


class WeightPruning(Pruning):
  """Prunes single weights of kernels.

  Own parameters: the scalar `progress`, and of movement under `scores` one for
  each weight.
  """

  def shapes(self, params: Parameters) -> Parameters:
    """Shape structs of scores and progress.

    Raises:
      UserError: a target is no kernel, or the pattern does not divide one.
    """
    made: dict[str, Any] = {"progress": jax.ShapeDtypeStruct((), jnp.float32)}
    kernels = self._kernels(params)
    if self._config.method == "movement":
      made |= {
        f"scores/{path}": jax.ShapeDtypeStruct(x.shape, jnp.float32)
        for path, x in kernels.items()
      }
    return trees.unflatten(made)

  def _kernels(self, params: Parameters) -> dict[str, Any]:
    config = self._config
    mask = trees.flatten(
      finetuning.matching(params, config.targets, "config.pruning.targets")
    )
    kernels = {
      path: x for path, x in trees.flatten(params).items() if mask[path]
    }
    _, group = config.kept_of
    for path, x in kernels.items():
      if not path.endswith("/kernel") or len(x.shape) != 2:
        raise settings.UserError(
          f"config.pruning.targets: expected kernels of dense layers, got"
          f" {path}"
        )
      if group and x.shape[0] % group:
        raise settings.UserError(
          f"config.pruning.pattern: {config.pattern} does not divide the"
          f" {x.shape[0]} inputs of {path}"
        )
    return kernels

  def _kept(
    self, params: Parameters, own: Parameters
  ) -> dict[str, Bool[Array, "inputs outputs"]]:
    config, kernels = self._config, self._kernels(params)
    scores = own.get("scores", {})
    ranked = (
      trees.flatten(scores)
      if config.method == "movement"
      else {path: jnp.abs(x) for path, x in kernels.items()}
    )
    ranked = jax.lax.stop_gradient(ranked)
    total = sum(x.size for x in kernels.values())
    goal = math.ceil(config.sparsity * total)
    kept, group = config.kept_of
    if group:
      goal = total // group * (group - kept)
      # Of these, the number that is to be pruned now goes first.
      ranked = {
        path: jnp.where(highest(x, kept, group), jnp.inf, x)
        for path, x in ranked.items()
      }
    progress = jax.lax.stop_gradient(own["progress"])
    pruned = lowest([*ranked.values()], [1] * len(ranked), _now(goal, progress))
    return {path: ~x for path, x in zip(ranked, pruned)}

  def _masks(
    self, params: Parameters, own: Parameters, key: Any
  ) -> Mapping[str, Array]:
    del key
    kept = self._kept(params, own)
    if self._config.method == "magnitude":
      return kept
    scores = trees.flatten(own["scores"])
    return {
      path: x + (scores[path] - jax.lax.stop_gradient(scores[path]))
      for path, x in kept.items()
    }

  def _measured(self, params: Parameters, own: Parameters) -> Mapping[str, Any]:
    kept = self._kept(params, own).values()
    pruned = sum((~x).sum() for x in kept)
    return {"sparsity": pruned / sum(x.size for x in kept)}


def highest(
  scores: Float[Array, "inputs outputs"], count: int, group: int
) -> Bool[Array, "inputs outputs"]:
  """The highest scores of each output's groups of consecutive inputs.

  Args:
    scores: distinct or not; of equal ones the first is higher.
    count: the number of each group.
    group: inputs of a group; divides all.
  """
  split = scores.reshape(-1, group, scores.shape[-1])
  one, other = split[:, :, None], split[:, None]
  earlier = jnp.tril(jnp.ones((group, group), bool), -1)[:, :, None]
  above = (other > one) | ((other == one) & earlier)
  return (above.sum(2) < count).reshape(scores.shape)


def _groups(
  encoder: EncoderConfig, index: int, structures: tuple[str, ...]
) -> list[_Group]:
  own, layer = encoder.of_layer(index), f"layer_{index}"
  width, inner = own.head_width, 3 if own.gated else 2
  groups = {
    "heads": _Group(
      f"heads/{layer}",
      f"encoder/{layer}/attention/output/kernel",
      own.num_heads,
      width,
      4 * width,
    ),
    "units": _Group(
      f"units/{layer}",
      f"encoder/{layer}/feed_forward/output/kernel",
      own.intermediate_size,
      1,
      inner,
    ),
  }
  return [groups[name] for name in structures]


def _now(goal: int, progress: Any) -> Any:
  """The part of a goal; all of it, exactly, in the end."""
  part = jnp.floor(progress * goal).astype(jnp.int32)
  return jnp.where(progress < 1, jnp.minimum(part, goal), goal)


def _check_one_of(value: str, known: tuple[str, ...], key: str) -> None:
  if value not in known:
    names = ", ".join(name for name in known if name)
    raise ValueError(f"{key}: expected one of {names}, got {value!r}")

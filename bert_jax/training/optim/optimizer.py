"""Optimizers: Optax chains that exempt norms and biases from decay, as BERT."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from bert_jax import settings, trees
from bert_jax.models import encoder
from bert_jax.training.optim import schedules, transforms
from bert_jax.training.optim.schedules import ScheduleConfig
from bert_jax.types import Parameters


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """The section `config.optimizer`; the defaults are those of Google's BERT.

  Attributes:
    name: a name in `OPTIMIZERS`.
    learning_rate: the peak of the schedule.
    schedule: the learning rate over the steps.
    b1: the decay of the first moment.
    b2: the decay of the second moment.
    eps: added to the square root of the second moment.
    weight_decay: decoupled from the gradient; not applied to norms and biases.
    l1: the strength of L1 regularization, added to weight decay and like it
      times the learning rate and not for norms and biases. Each update ends
      with its proximal operator, soft thresholding, so that parameters become
      exactly 0 (forward-backward splitting, Duchi and Singer 2009, JMLR 10).
    clip_norm: the maximum of the global norm of the gradients; None or 0 is no
      limit. For LAMB this is NVIDIA's pre-normalization.
    layer_decay: the factor of the learning rate for each layer between a
      parameter and the heads; 1 is the same rate everywhere. See
      `layer_scales`.
    l2_to_start: above 0, the strength with which the encoder decays to its
      initial values, decoupled from the gradient and instead of weight decay;
      heads keep weight decay. L2-SP of Li et al. (2018, arXiv:1802.01483). It
      costs a copy of the encoder.
  """

  name: str = "bert_adam"
  learning_rate: float = 1e-4
  schedule: ScheduleConfig = dataclasses.field(default_factory=ScheduleConfig)
  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-6
  weight_decay: float = 0.01
  l1: float = 0.0
  clip_norm: float | None = 1.0
  layer_decay: float = 1.0
  l2_to_start: float = 0.0

  def __post_init__(self):
    settings.choice("config.optimizer.name", self.name, OPTIMIZERS)
    rates, shares = ("learning_rate", "eps"), ("b1", "b2")
    settings.check(self, "above 0", lambda x: 0 < x < math.inf, *rates)
    settings.check(self, "in [0, 1)", lambda x: 0 <= x < 1, *shares)
    settings.check(self, "in (0, 1]", lambda x: 0 < x <= 1, "layer_decay")
    settings.check(
      self,
      "at least 0",
      lambda x: 0 <= (x or 0) < math.inf,
      "weight_decay",
      "l1",
      "clip_norm",
      "l2_to_start",
    )


def make(
  config: OptimizerConfig,
  total_steps: int,
  frozen: Parameters | None = None,
  clocked: bool = False,
) -> optax.GradientTransformation:
  """The optimizer as an Optax transformation.

  Its state has float32 moments, each with the shape of its parameter and under
  its path, and int32 counts. Gradients and parameters of a narrower dtype are
  cast to float32 for the update.

  With `l2_to_start`, `init` keeps a copy of its argument: the parameters that
  training starts with.

  Args:
    config: the section `config.optimizer`.
    total_steps: the length of the schedule.
    frozen: a tree of bools like the parameters, see `finetuning.frozen`. Under
      True updates are zero, gradients do not count for `clip_norm`, and the
      state has no moments.
    clocked: whether `update` takes the step of the schedule as the argument
      `clock`, instead of counting updates.

  Raises:
    UserError: the schedule does not fit the run.
  """
  rate = learning_rate(config, total_steps)
  scale = transforms.scale_by_clock if clocked else optax.scale_by_learning_rate
  chain = [OPTIMIZERS[config.name](config), scale(rate)]
  if config.clip_norm:
    chain.insert(0, transforms.clip_by_norm(config.clip_norm))
  if config.layer_decay != 1:
    chain.append(_scale_by_layer(config.layer_decay))
  if config.l1:
    scales = functools.partial(_l1_scales, config)
    chain.append(transforms.soft_threshold(rate, scales, clocked))
  transformation = optax.chain(*chain)
  if frozen is not None and any(jax.tree.leaves(frozen)):
    transformation = optax.selective_transform(
      transformation, freeze_mask=frozen
    )
  return transforms.in_float32(transformation)


def learning_rate(config: OptimizerConfig, total_steps: int) -> optax.Schedule:
  """The learning rate by step, as `make` uses it; see `schedules.make`."""
  return schedules.make(config.schedule, config.learning_rate, total_steps)


def decayed(params: Parameters) -> Parameters:
  """The mask of the parameters with weight decay and LAMB's trust ratio.

  It is False for a leaf named `bias` and for every leaf of a module whose name
  ends in `norm`.
  """

  def is_decayed(path: str, _) -> bool:
    *modules, leaf = path.split("/")
    return leaf != "bias" and not any(m.endswith("norm") for m in modules)

  return trees.map_with_path(is_decayed, params)


def layer_scales(params: Parameters, layer_decay: float) -> Parameters:
  """The factor of the learning rate of each parameter.

  Heads have 1, the top layer `layer_decay`, the layer below its square, and
  the embeddings the smallest factor, as in BEiT (Bao et al. 2021,
  arXiv:2106.08254). ELECTRA's code has one power more for all but the heads.
  Shared layers (ALBERT) count as one.

  Args:
    params: the parameters, or their shape structs.
    layer_decay: the factor of one layer.
  """
  return jax.tree.map(
    lambda distance: layer_decay**distance, encoder.distances(params)
  )


def _adamw(config: OptimizerConfig) -> optax.GradientTransformation:
  """Loshchilov and Hutter (2019, arXiv:1711.05101)."""
  return optax.chain(
    optax.scale_by_adam(config.b1, config.b2, config.eps), _decay(config)
  )


def _bert_adam(config: OptimizerConfig) -> optax.GradientTransformation:
  """AdamWeightDecayOptimizer of google-research/bert `optimization.py`."""
  return optax.chain(
    transforms.scale_by_uncorrected_adam(config.b1, config.b2, config.eps),
    _decay(config),
  )


def _lamb(config: OptimizerConfig) -> optax.GradientTransformation:
  """LAMB (You et al. 2020, arXiv:1904.00962) as in NVIDIA's and MLPerf's code.

  Norms and biases are exempt from weight decay and from the trust ratio, as in
  apex `FusedLAMB` without `use_nvlamb`; `optax.lamb` masks the decay only.
  """
  return optax.chain(
    optax.scale_by_adam(config.b1, config.b2, config.eps),
    _decay(config),
    optax.masked(optax.scale_by_trust_ratio(), decayed),
  )


OPTIMIZERS: Mapping[
  str, Callable[[OptimizerConfig], optax.GradientTransformation]
] = {
  "adamw": _adamw,
  "bert_adam": _bert_adam,
  "lamb": _lamb,
}


def _decay(config: OptimizerConfig) -> optax.GradientTransformation:
  """Decay to zero, or with `l2_to_start` of the encoder to its start."""
  if not config.l2_to_start:
    return optax.add_decayed_weights(config.weight_decay, mask=decayed)

  def heads_only(params: Parameters) -> Parameters:
    return jax.tree.map(
      lambda decays, in_encoder: decays and not in_encoder,
      decayed(params),
      encoder_only(params),
    )

  def encoder_only(params: Parameters) -> Parameters:
    return trees.map_with_path(
      lambda path, _: path.startswith("encoder/"), params
    )

  return optax.chain(
    optax.add_decayed_weights(config.weight_decay, mask=heads_only),
    optax.masked(transforms.pull_to_start(config.l2_to_start), encoder_only),
  )


def _l1_scales(config: OptimizerConfig, params: Parameters) -> Parameters:
  """The strength of L1 relative to the learning rate, for each parameter."""
  return jax.tree.map(
    lambda decays, scale: config.l1 * scale if decays else 0.0,
    decayed(params),
    layer_scales(params, config.layer_decay),
  )


def _scale_by_layer(layer_decay: float) -> optax.GradientTransformation:
  def scale(updates, params=None):
    del params
    return jax.tree.map(
      jnp.multiply, updates, layer_scales(updates, layer_decay)
    )

  return optax.stateless(scale)

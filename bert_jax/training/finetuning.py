"""Freezing and re-initialization of parts of a pretrained model."""

import dataclasses
import difflib
import re
from collections.abc import Sequence

import jax

from bert_jax import settings, trees
from bert_jax.models import encoder
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.types import Parameters


@dataclasses.dataclass(frozen=True)
class FinetuningConfig:
  """The section `config.finetuning`; by default all is loaded and trained.

  Attributes:
    freeze: regular expressions; a parameter whose whole path matches one of
      them is frozen: `encoder/layer_[0-5]/.*`, `pooler/.*`.
    freeze_embeddings: whether the embeddings are frozen, with their norm and
      projection.
    freeze_layers: the number of lowest layers that are frozen, and with them
      the embeddings, as in Lee et al. (2019, arXiv:1911.03090): nothing below
      a frozen layer is trained, so the backward pass ends there.
    reinit_layers: the number of top layers that start from initial values, and
      with them the pooler and a final norm (Zhang et al. 2021, "Revisiting
      few-sample BERT fine-tuning", arXiv:2006.05987).
    from_scratch: whether all parameters start from initial values: the model
      of config.init without its weights, as a baseline.
    ignore_unexpected: whether weights of config.init that the model has no
      place for are left out, with a warning; else they are an error.
  """

  freeze: tuple[str, ...] = ()
  freeze_embeddings: bool = False
  freeze_layers: int = 0
  reinit_layers: int = 0
  from_scratch: bool = False
  ignore_unexpected: bool = False

  def __post_init__(self):
    layers = ("freeze_layers", "reinit_layers")
    settings.check(self, "at least 0", lambda x: x >= 0, *layers)
    for pattern in self.freeze:
      try:
        re.compile(pattern)
      except re.error as error:
        raise ValueError(
          f"freeze: {pattern!r} is not a regular expression: {error}"
        ) from None


def check(config: FinetuningConfig, model: EncoderConfig) -> None:
  """Checks that the encoder has the layers that the config names.

  Raises:
    UserError: it has not.
  """
  layers = model.distinct_layers
  has = f"the encoder has {layers}" + " shared" * model.shared_layers
  for name in ("freeze_layers", "reinit_layers"):
    if getattr(config, name) > layers:
      raise UserError(
        f"config.finetuning.{name}: {getattr(config, name)} layers, but {has}"
      )
  if config.freeze_layers + config.reinit_layers > layers:
    raise UserError(
      f"config.finetuning.reinit_layers: {config.reinit_layers} layers and"
      f" {config.freeze_layers} frozen ones, but {has}"
    )


def frozen(params: Parameters, config: FinetuningConfig) -> Parameters:
  """The mask of the parameters that are not trained, a tree of bools.

  Args:
    params: a model's parameters or their shape structs.
    config: checked against the encoder with `check`.

  Raises:
    UserError: a pattern matches no parameter.
  """
  mask = matching(params, config.freeze, "config.finetuning.freeze")
  if not config.freeze_embeddings and not config.freeze_layers:
    return mask
  distances = encoder.distances(params)
  lowest = max(jax.tree.leaves(distances)) - config.freeze_layers
  return jax.tree.map(lambda x, found: found or x >= lowest, distances, mask)


def matching(
  params: Parameters, patterns: Sequence[str], key: str = "patterns"
) -> Parameters:
  """The mask of the parameters whose paths match a pattern.

  >>> matching({"encoder": {"bias": 0}, "head": {"bias": 0}}, ["encoder/.*"])
  {'encoder': {'bias': True}, 'head': {'bias': False}}

  Args:
    params: parameters, or their shape structs.
    patterns: regular expressions that must match the whole path.
    key: the name of the patterns in messages.

  Raises:
    UserError: a pattern matches no parameter.
  """
  paths = list(trees.flatten(params))
  for pattern in patterns:
    if not any(re.fullmatch(pattern, path) for path in paths):
      close = difflib.get_close_matches(pattern, paths, 3, 0.0)
      raise UserError(
        f"{key}: {pattern!r} matches no parameter; the closest are"
        f" {', '.join(close)}"
      )
  return trees.map_with_path(
    lambda path, _: any(re.fullmatch(pattern, path) for pattern in patterns),
    params,
  )


def reinitialized(params: Parameters, config: FinetuningConfig) -> Parameters:
  """The mask of the parameters to initialize, not to load; as `frozen`."""
  distances = trees.flatten(encoder.distances(params))

  def is_reinitialized(path: str, _) -> bool:
    if config.from_scratch or not config.reinit_layers:
      return config.from_scratch
    in_encoder = path.startswith("encoder/") or "pooler" in path.split("/")
    return in_encoder and distances[path] <= config.reinit_layers

  return trees.map_with_path(is_reinitialized, params)


def stop_frozen(params: Parameters, mask: Parameters) -> Parameters:
  """The parameters, with the gradient stopped where the mask is True.

  The compiler removes the computations of these gradients, which are zeros.
  """
  return jax.tree.map(
    lambda x, stop: jax.lax.stop_gradient(x) if stop else x, params, mask
  )

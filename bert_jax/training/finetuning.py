"""What of a pretrained model is kept as it is, and what begins anew."""

import dataclasses

import jax
import jax.numpy as jnp

from bert_jax import trees
from bert_jax.models import encoder
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.types import Parameters


@dataclasses.dataclass(frozen=True)
class FinetuningConfig:
  """The section `config.finetuning`; by default all is loaded and trained.

  Attributes:
    freeze_embeddings: whether the embeddings stay as they are loaded, with
      their norm and projection.
    freeze_layers: how many of the lowest layers stay so too, and with them
      the embeddings, as in Lee et al. (2019, arXiv:1911.03090): below what is
      frozen nothing is trained, so the backward pass ends there.
    reinit_layers: how many of the top layers begin from initial values, and
      with them the pooler and a last norm (Zhang et al. 2021, "Revisiting
      few-sample BERT fine-tuning", arXiv:2006.05987).
    from_scratch: whether everything begins so: the model is that of
      config.init without its weights, as a baseline.
  """

  freeze_embeddings: bool = False
  freeze_layers: int = 0
  reinit_layers: int = 0
  from_scratch: bool = False

  def __post_init__(self):
    for name in ("freeze_layers", "reinit_layers"):
      if getattr(self, name) < 0:
        raise ValueError(
          f"{name}: expected at least 0, got {getattr(self, name)}"
        )


def check(config: FinetuningConfig, model: EncoderConfig) -> None:
  """Refuses layers that the encoder does not have.

  Raises:
    UserError: too many layers are frozen or begin anew.
  """
  layers = 1 if model.shared_layers else model.num_layers
  has = f"the encoder has {layers}" + " shared" * model.shared_layers
  for name in ("freeze_layers", "reinit_layers"):
    if getattr(config, name) > layers:
      raise UserError(
        f"config.finetuning.{name}: {getattr(config, name)} layers, but {has}"
      )
  if config.freeze_layers + config.reinit_layers > layers:
    raise UserError(
      f"config.finetuning.reinit_layers: {config.reinit_layers} of the layers"
      f" besides {config.freeze_layers} that are frozen, but {has}"
    )


def frozen(params: Parameters, config: FinetuningConfig) -> Parameters:
  """Which parameters training leaves as they are.

  Args:
    params: a model's parameters or their shape structs, of one task or of
      several on one encoder.
    config: checked against the encoder with `check`.

  Returns:
    The same tree of bools.
  """
  if not config.freeze_embeddings and not config.freeze_layers:
    return jax.tree.map(lambda _: False, params)
  distances = encoder.distances(params)
  embeddings = max(jax.tree.leaves(distances))
  return jax.tree.map(
    lambda distance: embeddings - distance <= config.freeze_layers, distances
  )


def reinitialised(params: Parameters, config: FinetuningConfig) -> Parameters:
  """Which parameters begin from initial values though they could be loaded.

  Args:
    params: as for `frozen`.
    config: checked against the encoder with `check`.

  Returns:
    The same tree of bools.
  """
  distances = trees.flatten(encoder.distances(params))

  def begins_anew(path: str, _) -> bool:
    if config.from_scratch or not config.reinit_layers:
      return config.from_scratch
    of_these = path.startswith("encoder/") or "pooler" in path.split("/")
    return of_these and distances[path] <= config.reinit_layers

  return trees.map_with_path(begins_anew, params)


def stop_frozen(params: Parameters, mask: Parameters) -> Parameters:
  """The parameters, those under True cut off from the gradient.

  Their gradients are zeros, and the compiler drops what only they need.

  Args:
    params: the parameters, inside the function to be differentiated.
    mask: from `frozen`.
  """
  return jax.tree.map(
    lambda leaf, stop: jax.lax.stop_gradient(leaf) if stop else leaf,
    params,
    mask,
  )


def zero_frozen(updates: Parameters, mask: Parameters) -> Parameters:
  """The updates, with zeros under True, whatever the optimizer returned."""
  return jax.tree.map(
    lambda leaf, stop: jnp.zeros_like(leaf) if stop else leaf, updates, mask
  )

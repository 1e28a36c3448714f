"""Removes layers, attention heads and intermediate units.

What is removed is really gone: the arrays are smaller, and the model is faster.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from bert_jax import settings, trees
from bert_jax.data import grouping
from bert_jax.data.sources.labelled import Record
from bert_jax.model import Model
from bert_jax.models.config import EncoderConfig
from bert_jax.models.exits import Exits
from bert_jax.settings import UserError
from bert_jax.types import Batch, Parameters

_BATCH = 32


class Importance(NamedTuple):
  """How much heads and units matter for the loss.

  Attributes:
    heads: of each layer its heads.
    units: of each layer the units of its feed-forward block.
  """

  heads: list[Float[np.ndarray, " heads"]]
  units: list[Float[np.ndarray, " units"]]


def importance(model: Model, records: Sequence[Record]) -> Importance:
  """The expected absolute change of the loss if a head or unit is removed.

  To first order: the absolute sum, over the rows of an output kernel that are
  of a head or unit, of parameters times gradients, averaged over batches of one
  record. As in Michel et al. (2019, arXiv:1905.10650), divided by the norm over
  each layer.

  Args:
    model: with a head for its task.
    records: with gold fields; some hundred are enough.

  Raises:
    UserError: a record does not fit the task, or none was given.
  """
  _check(model)
  task, config = model.task, model.config
  examples = [
    x for record in records for x in task.preprocess(record, labelled=True)
  ]
  if not examples:
    raise UserError("importance: expected records, got none")

  def loss(params: Parameters, batch: Batch) -> Any:
    outputs = task.module.apply({"params": params}, batch)
    means = task.loss(outputs, batch).values()
    return sum(x.total / jnp.maximum(x.weight, 1e-9) for x in means)

  @jax.jit
  def of_batch(params: Parameters, batch: Batch) -> Any:
    def of_row(row: Batch) -> Any:
      single = jax.tree.map(lambda x: x[None], row)
      gradients = jax.grad(loss)(params, single)["encoder"]
      return _products(params["encoder"], gradients, config)

    return jax.tree.map(lambda x: x.sum(0), jax.lax.map(of_row, batch))

  total: Any = None
  shapes = grouping.Shapes(worth=50_000)
  for start in range(0, len(examples), _BATCH):
    part = examples[start : start + _BATCH]
    length = grouping.bucket(
      grouping.LENGTH_BUCKETS, max(x.token_ids.shape[-1] for x in part)
    )
    rows, length = shapes.choose(_BATCH, length)
    batch = grouping.pad(
      part, task.axes_of(part[0]), rows=rows, grow=lambda _, n=length: n
    )
    found = of_batch(model.params, batch)
    total = found if total is None else jax.tree.map(jnp.add, total, found)
  total = jax.tree.map(lambda x: np.asarray(x / jnp.linalg.norm(x)), total)
  return Importance(*total)


def _products(
  params: Parameters, gradients: Parameters, config: EncoderConfig
) -> tuple[list[Any], list[Any]]:
  """The absolute products of each head and unit, for each layer."""
  heads, units = [], []
  for index in range(config.num_layers):
    layer, gradient = (x[f"layer_{index}"] for x in (params, gradients))

    def rows(block: str, layer=layer, gradient=gradient) -> Any:
      kernels = (x[block]["output"]["kernel"] for x in (layer, gradient))
      one, other = kernels
      return (one * other).sum(-1)

    by_head = rows("attention").reshape(-1, config.head_width).sum(-1)
    heads.append(jnp.abs(by_head))
    units.append(jnp.abs(rows("feed_forward")))
  return heads, units


def remove(
  model: Model,
  heads: Mapping[int, Sequence[int]] | None = None,
  units: Mapping[int, Sequence[int]] | None = None,
) -> Model:
  """A model without some heads and units.

  Its outputs are those of the model whose output kernels have zeros in the rows
  of these heads and units.

  Args:
    model: any whose layers do not share parameters.
    heads: those to remove, by layer; at least one of a layer stays.
    units: those of the feed-forward blocks.

  Raises:
    UserError: there are no such layers, heads or units, or none would stay.
  """
  _check(model)
  config = model.config
  flat = trees.flatten(model.params)
  sizes: dict[str, list[int]] = {"heads": [], "units": []}
  for index in range(config.num_layers):
    own = config.of_layer(index)
    name = f"encoder/layer_{index}"
    kept = _kept("heads", index, own.num_heads, (heads or {}).get(index, ()))
    places = kept[:, None] * own.head_width + np.arange(own.head_width)
    _take(flat, f"{name}/attention", ("query", "key", "value"), places.ravel())
    sizes["heads"].append(len(kept))
    kept = _kept(
      "units", index, own.intermediate_size, (units or {}).get(index, ())
    )
    _take(flat, f"{name}/feed_forward", ("intermediate", "gate"), kept)
    sizes["units"].append(len(kept))
  for name, given in (("heads", heads), ("units", units)):
    for layer in given or {}:
      if not 0 <= layer < config.num_layers:
        raise UserError(
          f"{name}: no layer {layer}; the encoder has {config.num_layers}"
        )
  changes: dict[str, Any] = {}
  if heads:
    changes |= {
      "head_size": config.head_width,
      "layer_heads": tuple(sizes["heads"]),
    }
  if units:
    changes["layer_intermediate_sizes"] = tuple(sizes["units"])
  return _made(model, changes, flat)


def zeros(model: Model) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
  """The heads and the units whose rows of output kernels are all 0, by layer.

  Their removal changes no output. At least one of a layer is left out, and all
  are that cannot be removed.

  >>> heads, units = zeros(model)
  >>> smaller = remove(model, heads, units)

  Args:
    model: as after `config.pruning`.
  """
  if model.config.shared_layers or model.task.wrap is not None:
    return {}, {}
  found: tuple[dict[int, list[int]], ...] = ({}, {})
  for index in range(model.config.num_layers):
    layer = model.params["encoder"][f"layer_{index}"]
    for chosen, block, width in zip(
      found, ("attention", "feed_forward"), (model.config.head_width, 1)
    ):
      kernel = np.asarray(layer[block]["output"]["kernel"])
      is_zero = ~kernel.reshape(len(kernel) // width, -1).any(axis=1)
      items = [*map(int, np.flatnonzero(is_zero))][: len(is_zero) - 1]
      if items:
        chosen[index] = items
  heads, units = found
  return ({} if model.config.relative_buckets else heads), units


def least_important(
  found: Sequence[Float[np.ndarray, " items"]], share: float, least: int = 1
) -> dict[int, list[int]]:
  """The items of all layers together that matter least.

  Args:
    found: `Importance.heads` or `.units`.
    share: of all items that are to be removed, from 0 to less than 1.
    least: items of a layer that stay.

  Raises:
    UserError: the share is out of range.
  """
  if not 0 <= share < 1:
    raise UserError(f"share: expected from 0 to less than 1, got {share}")
  order = sorted(
    (value, layer, item)
    for layer, values in enumerate(found)
    for item, value in enumerate(values)
  )
  chosen: dict[int, list[int]] = {}
  left = round(share * len(order))
  for _, layer, item in order:
    if not left:
      break
    own = chosen.setdefault(layer, [])
    if len(own) < len(found[layer]) - least:
      own.append(item)
      left -= 1
  return {layer: sorted(items) for layer, items in chosen.items() if items}


def evenly_spaced(num_layers: int, count: int) -> list[int]:
  """The numbers of some of a model's layers, with the first and the last.

  >>> evenly_spaced(12, 6)  # Those that DistilBERT starts from.
  [0, 2, 4, 7, 9, 11]

  Raises:
    UserError: there are not so many layers, or the count is less than 1.
  """
  if not 1 <= count <= num_layers:
    raise UserError(f"layers: expected 1 to {num_layers} of them, got {count}")
  places = np.linspace(0, num_layers - 1, count).round()
  return places.astype(int).tolist()


def keep_layers(model: Model, layers: Sequence[int]) -> Model:
  """A model of some of a model's layers, in this order, as DistilBERT starts.

  Early exits are left out.

  Args:
    model: any whose layers do not share parameters.
    layers: the numbers of those to keep, from 0.

  Raises:
    UserError: there is no such layer, or none was given.
  """
  _check(model)
  config = model.config
  for index in layers:
    if not 0 <= index < config.num_layers:
      raise UserError(
        f"layers: no layer {index}; the encoder has {config.num_layers}"
      )
  if not layers:
    raise UserError("layers: expected at least one, got none")
  if config.local_window and any(
    (old - new) % config.global_every for new, old in enumerate(layers)
  ):
    raise UserError(
      "layers: local and global attention alternate; keep layers whose numbers"
      f" are the new ones plus multiples of {config.global_every}"
    )
  flat = trees.flatten(model.params)
  made = {
    path: x
    for path, x in flat.items()
    if not path.startswith("encoder/layer_")
    and path.split("/")[0] not in model.task.exit_names
  }
  for new, old in enumerate(layers):
    start = f"encoder/layer_{old}/"
    for path, x in flat.items():
      if path.startswith(start):
        made[f"encoder/layer_{new}/{path.removeprefix(start)}"] = x
  if config.pre_norm and layers[0]:
    # The first layer has no such norm, as the embeddings are normalized.
    made = {
      path: x
      for path, x in made.items()
      if not path.startswith("encoder/layer_0/attention_norm")
    }

  def chosen(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(values[index] for index in layers) if values else ()

  changes = {
    "num_layers": len(layers),
    "layer_dropouts": chosen(config.layer_dropouts),
    "layer_heads": chosen(config.layer_heads),
    "layer_intermediate_sizes": chosen(config.layer_intermediate_sizes),
  }
  task = dataclasses.replace(model.task, exits=Exits())
  return _made(dataclasses.replace(model, task=task), changes, made)


def _check(model: Model) -> None:
  if model.config.shared_layers:
    raise UserError("the layers of this encoder share their parameters")
  if model.task.wrap is not None:
    raise UserError("expected a single model, got an ensemble")


def _kept(
  what: str, layer: int, count: int, removed: Sequence[int]
) -> np.ndarray:
  """The numbers of the items that stay."""
  for item in removed:
    if not 0 <= item < count:
      raise UserError(f"{what}: layer {layer} has {count}, got number {item}")
  kept = np.setdiff1d(np.arange(count), np.array(removed, int))
  if not len(kept):
    raise UserError(f"{what}: none would be left in layer {layer}")
  return kept


def _take(
  flat: dict[str, Any], block: str, inner: Sequence[str], kept: np.ndarray
) -> None:
  """Keeps features of the inner layers, and their rows of the output layer."""
  for name in inner:
    for leaf in ("kernel", "bias"):
      path = f"{block}/{name}/{leaf}"
      if path in flat:
        flat[path] = jnp.asarray(flat[path])[..., kept]
  path = f"{block}/output/kernel"
  flat[path] = jnp.asarray(flat[path])[kept]


def _made(
  model: Model, changes: Mapping[str, Any], flat: Mapping[str, Any]
) -> Model:
  config = settings.replace(model.config, changes, "model")
  task = model.task.bind(config, model.tokenizer)
  params = trees.unflatten(flat)
  return Model(task, params, model.batch_size, model.mesh)

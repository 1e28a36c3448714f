"""The forward pass of a model with early exits."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from bert_jax.batch import map_arrays
from bert_jax.data import grouping
from bert_jax.models import low_rank
from bert_jax.models.config import EncoderConfig
from bert_jax.models.exits import head_name
from bert_jax.tasks import exits
from bert_jax.tasks.task import Task
from bert_jax.training.inference import Forward
from bert_jax.training.programs import CachedFunction
from bert_jax.types import Batch, Parameters

_Arrays = dict[str, np.ndarray]


class _Segment(NamedTuple):
  """The layers up to an exit.

  Attributes:
    exit: the layer of the exit; None for the last one.
    last: one past its last layer.
    function: of a batch and, unless it is the first, the output of the layers
      before; gives its own output, and those of heads.
    names: the names of heads by those of the function.
  """

  exit: int | None
  last: int
  function: CachedFunction
  names: Mapping[str, str]


class EarlyExitForward(Forward):
  """A forward pass that ends for each row at one of the exits.

  A single row has one program, which skips the layers after its exit. For more
  there is a program for the layers from one exit to the next: where half of a
  batch has left, the others go on in a smaller one. With a mesh they stay, and
  the batch ends with its last row. Layers with the same shapes share their
  programs.

  Attributes:
    left: the rows that have left so far, int64 [layers], after each layer.
  """

  def __init__(
    self,
    task: Task,
    params: Parameters,
    mesh: jax.sharding.Mesh | None = None,
  ):
    """Compiles nothing yet; arguments are those of `Forward`."""
    super().__init__(task, params, mesh)
    self._task = task
    self.left = np.zeros(task.config.num_layers, np.int64)
    self._segments = _segments(task, params)
    self._programs: dict[Any, Callable[..., Any]] = {}
    self._single = CachedFunction(functools.partial(_skipping, task), params)

  def prepare(self, batch: Batch) -> Callable[[], _Arrays]:
    """As in `Forward`; compiles for all smaller numbers of rows too."""
    if self._mesh is None and len(batch.token_ids) == 1:
      run = self._single.prepare(batch)
      return lambda: self._counted(*run())
    plain = dataclasses.replace(batch, targets={}, task="")
    # On a mesh, a program depends on where the output before it lies.
    if self._mesh is None:
      self._compile(plain)
    return lambda: self._compute(batch, plain)

  def _compile(self, plain: Batch) -> None:
    """Starts to compile for all that may be left of a batch."""
    config, most = self._task.config, len(plain.token_ids)
    if (0, plain.token_ids.shape) in self._programs:
      return
    first = self._segments[0].function.program(plain)
    for count in {most, *(1 << n for n in range((most - 1).bit_length()))}:
      rows = map_arrays(lambda _, x, n=count: x[:n], plain)
      shape = (*rows.token_ids.shape, config.hidden_size)
      x = np.zeros(shape, jnp.dtype(config.dtype))
      for number, segment in enumerate(self._segments[1:], 1):
        key = (number, rows.token_ids.shape)
        self._programs[key] = segment.function.program(rows, x)
    # The last, which says that all are there.
    self._programs[0, plain.token_ids.shape] = first

  def _counted(self, outputs: _Arrays, layers: Any) -> _Arrays:
    self.left += np.bincount(np.asarray(layers), minlength=len(self.left) + 1)[
      1:
    ]
    return outputs

  def _run(self, number: int, plain: Batch, *hidden: Any) -> Any:
    if self._mesh is None:
      program = self._programs[number, plain.token_ids.shape]
      return program(plain, *hidden)
    return self._prepare(self._segments[number].function, plain, *hidden)()

  def _compute(self, batch: Batch, plain: Batch) -> _Arrays:
    used = np.asarray(batch.sequence_ids > 0).any(-1)
    # Where each row of the batch is in the one that is computed.
    places = np.arange(len(used))
    is_open, same = used.copy(), np.zeros(len(used), int)
    found: _Arrays = {}
    before: _Arrays = {}
    hidden: tuple[Any, ...] = ()
    for number, segment in enumerate(self._segments):
      x, outputs = self._run(number, plain, *hidden)
      outputs = {
        segment.names[name]: np.asarray(array)[places]
        for name, array in outputs.items()
      }
      leaves = is_open
      if segment.exit is not None:
        may, same = exits.leaves(self._task, outputs, before, batch, same)
        leaves = is_open & np.asarray(may)
      for name, array in outputs.items():
        own = found.setdefault(name, np.array(array))
        own[leaves] = array[leaves]
      self.left[segment.last - 1] += leaves.sum()
      is_open = is_open & ~leaves
      if not is_open.any():
        break
      before = outputs
      plain, x, places = self._smaller(plain, x, places, is_open)
      hidden = (x,)
    return found

  def _smaller(
    self,
    plain: Batch,
    x: Any,
    places: Int[np.ndarray, " rows"],
    is_open: Bool[np.ndarray, " rows"],
  ) -> tuple[Batch, Any, Int[np.ndarray, " rows"]]:
    """The batch with fewer rows, if half of them are enough."""
    (rows,) = np.nonzero(is_open)
    count = grouping.power_of_two(len(rows))
    if self._mesh is not None or count >= len(plain.token_ids):
      return plain, x, places
    kept = np.full(count, places[rows[0]])
    kept[: len(rows)] = places[rows]
    places = np.zeros_like(places)
    places[rows] = np.arange(len(rows))
    return map_arrays(lambda _, a: a[kept], plain), _take(x, kept), places


_take = jax.jit(lambda x, rows: x[rows])


def _segments(task: Task, params: Parameters) -> list[_Segment]:
  """The layers up to each exit, and what computes them."""
  config, heads = task.config, task.head_names.values()
  functions: dict[Any, tuple[CachedFunction, int, int | None]] = {}
  found, first = [], 0
  for exit in (*task.exits.layers(config), None):
    last = config.num_layers if exit is None else exit + 1
    kinds = tuple(_kind(config, params, i) for i in range(first, last))
    key = (first == 0, kinds)
    if key not in functions:
      function = functools.partial(_apply, task.module, first, last, exit)
      functions[key] = CachedFunction(function), first, exit
    function, alike, exit_alike = functions[key]
    names = {_head(exit_alike, head): _head(exit, head) for head in heads}
    encoder = {
      name: x
      for name, x in params["encoder"].items()
      if name == "final_norm" or first == 0 or config.relative_buckets
      if not name.startswith("layer_")
    }
    for index in range(first, last):
      name, own = (
        f"layer_{config.distinct_layer(n)}"
        for n in (alike + index - first, index)
      )
      encoder[name] = params["encoder"][own]
    of_heads = {name: params[own] for name, own in names.items()}
    shared = {x: params[x] for x in ("pooler", "transform") if x in params}
    own_params = {"encoder": encoder, **shared, **of_heads}
    outputs = {_head(exit_alike, head): head for head in heads}
    found.append(_Segment(exit, last, function.with_fixed(own_params), outputs))
    first = last
  return found


def _apply(
  module: Any,
  first: int,
  last: int,
  exit: int | None,
  params: Parameters,
  batch: Batch,
  x: Any = None,
) -> tuple[Any, dict[str, Any]]:
  params = low_rank.merged(params)
  return module.apply(
    {"params": params}, batch, x, first, last, exit, method="part"
  )


def _skipping(
  task: Task, params: Parameters, batch: Batch
) -> tuple[dict[str, Any], Int[Array, " rows"]]:
  """The outputs of a batch, and after how many layers each row has left.

  That is 0 for padding. Layers after the last row that leaves are skipped.
  """
  plain = dataclasses.replace(batch, targets={}, task="")
  used = (batch.sequence_ids > 0).any(-1)
  heads = task.head_names.values()
  state: Any = None
  first = 0
  for exit in (*task.exits.layers(task.config), None):
    last = task.config.num_layers if exit is None else exit + 1

    def go_on(state: Any, first=first, last=last, exit=exit) -> Any:
      x, before, same, is_open, layers = state
      x, outputs = _apply(task.module, first, last, exit, params, plain, x)
      outputs = {head: outputs[_head(exit, head)] for head in heads}
      leaves = is_open
      if exit is not None:
        leaves, same = exits.leaves(task, outputs, before, batch, same)
      outputs = {
        head: jnp.where(_like(is_open, new), new, before.get(head, new))
        for head, new in outputs.items()
      }
      layers = jnp.where(is_open, last, layers)
      return x, outputs, same, is_open & ~leaves, layers

    if state is None:
      none = jnp.zeros(len(used), int)
      state = go_on((None, {}, none, used, none))
    else:
      is_open = state[3]
      state = jax.lax.cond(is_open.any(), go_on, lambda x: x, state)
    first = last
  return state[1], state[4]


def _like(rows: Any, array: Any) -> Any:
  """Rows with further axes, to be broadcast with an array."""
  return rows.reshape(-1, *[1] * (array.ndim - 1))


def _kind(config: EncoderConfig, params: Parameters, index: int) -> Any:
  """Layers of the same kind are the same function of their parameters."""
  distinct = config.distinct_layer(index)
  leaves, structure = jax.tree.flatten(params["encoder"][f"layer_{distinct}"])
  return (
    bool(config.local_window and index % config.global_every),
    config.shared_layers and distinct,
    structure,
    tuple((x.shape, x.dtype) for x in leaves),
  )


def _head(exit: int | None, head: str) -> str:
  return head if exit is None else head_name(exit, head)

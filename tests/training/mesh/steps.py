"""One update on a mesh, to be compared with the same on one device."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from bert_jax import trees
from bert_jax.aot import hlo
from bert_jax.tasks import TASKS
from bert_jax.training.compilation import CompiledUpdate
from bert_jax.training.mesh import meshes, partitioning
from bert_jax.training.mesh.meshes import MeshConfig
from bert_jax.training.optim import optimizer
from bert_jax.training.train import make_update
from bert_jax.types import Batch, TrainState
from tests import small

ROWS, LENGTH = 64, 8
# One layer: to compile for eight devices takes its time. With dropout, whose
# masks are the same on any mesh.
ENCODER = dataclasses.replace(
  small.ENCODER,
  # So that scalars are little of what is communicated.
  hidden_size=32,
  intermediate_size=64,
  num_layers=1,
  max_positions=LENGTH,
  hidden_dropout=0.1,
  attention_dropout=0.1,
)
# Large, for what divides small gradients by their size makes noise of them.
LAMB = optimizer.OptimizerConfig("lamb", learning_rate=0.1, eps=1e-2)


def batch():
  """Rows of several lengths, so that devices have different weights."""
  rng = np.random.default_rng(0)
  lengths = rng.integers(3, LENGTH + 1, ROWS)
  ids = rng.integers(0, 24, (ROWS, LENGTH))
  return dataclasses.replace(
    Batch.from_ids(ids, np.arange(LENGTH) < lengths[:, None]),
    targets={
      "masked_lm/positions": rng.integers(0, 3, (ROWS, 2), np.int32),
      "masked_lm/ids": rng.integers(0, 24, (ROWS, 2), np.int32),
      "masked_lm/weights": np.float32(rng.random((ROWS, 2)) < 0.7),
      "next_sentence/labels": rng.integers(0, 2, (ROWS, 1), np.int32),
      "next_sentence/weights": np.ones((ROWS, 1), np.float32),
    },
  )


@functools.cache
def task():
  return TASKS["pretraining"].bind(ENCODER, small.tokenizer())


def initial(transformation):
  """A state whose values do not depend on where it lies."""
  params = task().init_params(jax.random.key(1))
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    optimizer_state=transformation.init(params),
    key=jax.random.key(2),
  )


@functools.cache
def _initial_arrays():
  """`initial` with LAMB, as NumPy arrays; the key is left out."""
  state = jax.jit(functools.partial(initial, optimizer.make(LAMB, 10)))()
  return jax.tree.map(np.asarray, dataclasses.replace(state, key=None))


def _placed(shapes):
  """The initial state, where these shapes say that it lies.

  To compile `initial` for each mesh would take longer than its update.
  """
  state = dataclasses.replace(_initial_arrays(), key=jax.random.key(2))
  return jax.tree.map(
    lambda x, at: jax.device_put(x, at.sharding), state, shapes
  )


class Updated(NamedTuple):
  """What an update of LAMB leaves.

  Attributes:
    arrays: parameters, optimizer state and measures by path; the first moments
      are the gradients, but for a factor.
    is_donated: whether it took the memory of the state before.
    state: shapes of the state, and where it lies.
    program: what was compiled.
  """

  arrays: dict[str, Any]
  is_donated: bool
  state: TrainState
  program: hlo.Program


def one_update(config, devices=None):
  """Does one update on a mesh."""
  layout = partitioning.make_layout(config, devices)
  transformation = optimizer.make(LAMB, 10)
  init = functools.partial(initial, transformation)
  shapes = partitioning.state_shapes(init, layout)
  state = _placed(shapes)
  rows = np.array(meshes.own_rows(layout.mesh, ROWS))
  own = jax.tree.map(lambda x: x[rows], batch())
  put = meshes.put_batch(own, layout.mesh, ROWS)
  updates = CompiledUpdate(
    make_update(task(), transformation), layout.mesh, ROWS
  )
  update = updates.lower(state, put).compile()
  after, measures = update(state, put)
  taken = all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
  found = trees.flatten((after.params, after.optimizer_state))
  values = {name: mean.value() for name, mean in measures.items()}
  return Updated(
    {path: whole(x) for path, x in (found | values).items()},
    taken,
    shapes,
    hlo.parse(update.as_text()),
  )


def whole(array):
  """All of an array that lies on several processes, as NumPy's."""
  if array.is_fully_addressable:
    return np.asarray(array)
  return multihost_utils.process_allgather(array, tiled=True)


@functools.cache
def on_one_device():
  """What `one_update` leaves on the first device of this process."""
  return one_update(MeshConfig(), jax.local_devices()[:1]).arrays


def assert_as_on_one_device(config):
  """Losses, gradients, LAMB's norms and parameters are the same to 1e-5.

  Returns:
    What `one_update` leaves.
  """
  found = one_update(config)
  assert found.is_donated
  expected = on_one_device()
  assert found.arrays.keys() == expected.keys()
  for path, value in expected.items():
    np.testing.assert_allclose(
      found.arrays[path], value, atol=1e-5, rtol=1e-5, err_msg=path
    )
  return found

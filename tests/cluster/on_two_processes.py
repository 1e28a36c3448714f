"""What `test_processes.py` runs in each of two processes with four devices."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

from bert_jax.checkpointing.checkpoints import Checkpoints
from bert_jax.cluster import processes
from bert_jax.settings import UserError
from bert_jax.training.mesh import meshes, partitioning
from bert_jax.training.mesh.meshes import MeshConfig
from bert_jax.types import TrainState
from tests.errors import user_error
from tests.training.mesh import steps


def check_that_all_get_what_the_first_does(me):
  calls = []

  def work():
    calls.append(me)
    return {"found": [1, "zwei"]}

  assert processes.on_first(work) == {"found": [1, "zwei"]}
  assert calls == ([0] if me == 0 else [])

  def fail():
    raise UserError("no such thing")

  with user_error("no such thing"):
    processes.on_first(fail)


def check_that_every_row_is_read_once(me):
  mesh = meshes.make_mesh(MeshConfig(fsdp=2))
  rows = np.array(meshes.own_rows(mesh, 16))
  assert rows.tolist() == [*range(8 * me, 8 * me + 8)]
  # Whatever the order of the devices, a row lies where it is read.
  order = np.array(jax.devices())[[7, 0, 2, 5, 4, 1, 6, 3]]
  mesh = jax.sharding.Mesh(order.reshape(4, 2, 1), meshes.AXES)
  rows = np.array(meshes.own_rows(mesh, 16))
  assert len(rows) == 8
  numbers = np.arange(16.0)[:, None]
  put = meshes.put_batch(numbers[rows], mesh, 16)
  np.testing.assert_array_equal(steps.whole(put), numbers)
  # Where `model` reaches over both, both read all.
  mesh = meshes.make_mesh(MeshConfig(model=8), np.array(jax.devices()))
  assert meshes.own_rows(mesh, 4) == (0, 1, 2, 3)
  put = meshes.put_batch(numbers, mesh)
  np.testing.assert_array_equal(steps.whole(put), numbers)


def check_that_a_checkpoint_is_of_all(folder):
  def init():
    params = {"pooler": {"dense": {"kernel": jnp.arange(64.0).reshape(8, 8)}}}
    return TrainState(jnp.int32(3), params, (), jax.random.key(0))

  layout = partitioning.make_layout(MeshConfig(data=1, fsdp=8))
  state = partitioning.init_state(init, layout)
  with Checkpoints(folder) as checkpoints:
    checkpoints.save(state, {"position": 7})
    other = partitioning.make_layout(MeshConfig(data=2, fsdp=2, model=2))
    found, metadata = checkpoints.restore(
      partitioning.state_shapes(init, other)
    )
    assert metadata == {"position": 7}
    kernel = steps.whole(found.params["pooler"]["dense"]["kernel"])
    np.testing.assert_array_equal(kernel, np.arange(64.0).reshape(8, 8))


def main(address, me, folder):
  processes.join(processes.Cluster(address, 2, int(me)))
  assert jax.device_count() == 8 and jax.local_device_count() == 4
  assert processes.is_first() == (me == "0")
  check_that_all_get_what_the_first_does(int(me))
  check_that_every_row_is_read_once(int(me))
  check_that_a_checkpoint_is_of_all(pathlib.Path(folder))
  print("all is well")


if __name__ == "__main__":
  main(*sys.argv[1:])

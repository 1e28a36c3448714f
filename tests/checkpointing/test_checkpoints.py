import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bert_jax import trees
from bert_jax.checkpointing import manifest, parameters
from bert_jax.checkpointing.checkpoints import Checkpoints
from bert_jax.types import TrainState
from tests.errors import user_error


def make_state(step, rows=8):
  """A state whose every array follows from the step."""
  rng = np.random.default_rng(step)
  kernel = rng.normal(size=(rows, 16)).astype(np.float32)
  kernel[0, :4] = [np.nan, -0.0, np.inf, 1e-42]
  params = {
    "encoder": {"kernel": jnp.asarray(kernel), "bias": jnp.arange(3.0)},
    "half": jnp.asarray(rng.normal(size=300), jnp.bfloat16),
    "empty": {},
  }
  moments = optax.adamw(0.1).init(params)
  return TrainState(
    step=jnp.int32(step),
    params=params,
    optimizer_state=jax.tree.map(lambda x: x + step, moments),
    key=jax.random.key(step, impl="rbg"),
  )


def shapes(state):
  where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), state
  )


def as_bytes(state):
  """Every array's dtype and bytes."""
  plain = dataclasses.replace(state, key=jax.random.key_data(state.key))
  leaves = trees.flatten(plain).items()
  return {name: (x.dtype, np.asarray(x).tobytes()) for name, x in leaves}


def save(folder, *steps, best=(), **options):
  with Checkpoints(folder, **options) as checkpoints:
    for step in steps:
      metadata = {"position": {"index": step}}
      checkpoints.save(make_state(step), metadata, best=step in best)
    checkpoints.wait()
    return checkpoints.steps()


def restore(folder):
  """What is restored, checked to be what was saved; its step."""
  with Checkpoints(folder) as checkpoints:
    found = checkpoints.restore(shapes(make_state(0)))
  if found is None:
    return None
  state, metadata = found
  step = int(state.step)
  assert jax.random.key_impl(state.key) == "rbg"
  assert as_bytes(state) == as_bytes(make_state(step))
  assert metadata == {"position": {"index": step}}
  return step


def test_every_bit_comes_back_and_nothing_is_said(tmp_path, capfd):
  assert save(tmp_path / "new" / "folder", 5) == [5]
  assert restore(tmp_path / "new" / "folder") == 5
  assert capfd.readouterr() == ("", "")


def test_nothing_saved_is_none(tmp_path):
  assert restore(tmp_path / "missing") is None
  assert restore(tmp_path) is None


def test_old_steps_go(tmp_path):
  assert save(tmp_path, 1, 2, 10, 30, keep=2) == [10, 30]
  assert {path.name for path in tmp_path.iterdir()} == {"10", "30"}
  assert restore(tmp_path) == 30


def test_a_step_counts_without_waiting_for_the_next_save(tmp_path):
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(make_state(1), {})
    checkpoints.wait()
    assert manifest.verify(tmp_path / "1") is None


def test_steps_donated_during_the_save_do_not_show_in_it(tmp_path):
  @functools.partial(jax.jit, donate_argnums=0)
  def update(state):
    return dataclasses.replace(
      state,
      step=state.step + 1,
      params=jax.tree.map(lambda x: x + 1, state.params),
    )

  # Large enough that writing goes on while the next steps run.
  size = 4_000_000
  state = TrainState(
    jnp.int32(0), {"a": jnp.zeros(size)}, (), jax.random.key(0)
  )
  target = shapes(state)
  with Checkpoints(tmp_path) as checkpoints:
    for _ in range(3):
      checkpoints.save(state, {})
      for _ in range(20):
        state = update(state)
      jax.block_until_ready(state)
    for step in (40, 20, 0):
      found, _ = checkpoints.restore(target)
      assert int(found.step) == step
      np.testing.assert_array_equal(found.params["a"], np.full(size, step))
      (tmp_path / str(step) / manifest.NAME).unlink()


def test_other_shapes_are_refused_by_name(tmp_path, two_steps):
  other = make_state(0, rows=9)
  message = (
    r"2: params/encoder/kernel is saved as float32\[8,16\], but the config"
    r" makes it float32\[9,16\]"
  )
  checkpoints = Checkpoints(two_steps)
  with checkpoints, user_error(message):
    checkpoints.restore(shapes(other))
  with user_error(message):
    parameters.restore_params(two_steps, shapes(other.params))


def test_another_optimizer_or_generator_is_refused(two_steps):
  state = make_state(0)
  sgd = optax.sgd(0.1, momentum=0.9).init(state.params)
  key = jax.random.key(0, impl="threefry2x32")
  with Checkpoints(two_steps) as checkpoints:
    for changes, name in (
      ({"optimizer_state": sgd}, "optimizer_state/"),
      ({"key": key}, r"key is saved as key<rbg>\[\]"),
    ):
      other = dataclasses.replace(state, **changes)
      with user_error(name):
        checkpoints.restore(shapes(other))


def test_parameters_alone(two_steps):
  wanted = make_state(2).params
  target = jax.eval_shape(lambda: wanted)
  found = parameters.restore_params(two_steps, target)
  assert jax.tree.structure(found) == jax.tree.structure(wanted)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted)):
    assert a.dtype == b.dtype
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_some_of_the_parameters(two_steps):
  target = jax.eval_shape(lambda: {"encoder": make_state(2).params["encoder"]})
  found = parameters.restore_params(two_steps, target)
  assert list(trees.flatten(found)) == ["encoder/bias", "encoder/kernel"]
  with user_error("params/head is saved as noth"):
    parameters.restore_params(
      two_steps, {"head": jax.ShapeDtypeStruct((2,), jnp.float32)}
    )


def test_folders_that_cannot_be(tmp_path):
  (tmp_path / "file").touch()
  for folder, message in {
    tmp_path / "file": "found a file",
    "http://bucket/run": "expected a local path, gs://",
  }.items():
    with user_error(message):
      Checkpoints(folder)
  with user_error("missing: no checkpoint"):
    parameters.restore_params(tmp_path / "missing", {})
  with user_error("step 1 could not be written"):
    save(tmp_path / "file" / "below", 1)
  with user_error(r"config.checkpoint.keep"):
    Checkpoints(tmp_path, keep=0)


def test_the_metadata_is_plain_json(two_steps):
  contents = json.loads((two_steps / "2" / "contents.json").read_text())
  assert contents["arrays"]["params/half"] == "bfloat16[300]"

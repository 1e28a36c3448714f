"""Tests that `test_partitioning.py` runs in a process with eight devices."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import bert_jax
from bert_jax import trees
from bert_jax.aot import hlo
from bert_jax.checkpointing.checkpoints import Checkpoints
from bert_jax.checkpointing.parameters import restore_params
from bert_jax.model import Model
from bert_jax.models import attention
from bert_jax.tasks import TASKS
from bert_jax.training import workdir
from bert_jax.training.distillation import objective, teacher
from bert_jax.training.distillation.config import TeacherConfig
from bert_jax.training.mesh import meshes, partitioning
from bert_jax.training.mesh.meshes import MeshConfig
from bert_jax.training.optim import optimizer
from bert_jax.types import TrainState
from tests import pytrees, small
from tests.errors import user_error
from tests.interop import folders
from tests.training.mesh import steps

SPLIT = MeshConfig(data=2, fsdp=2, model=2)
WORDS = "encoder/embeddings/word/embedding"

init = functools.partial(steps.initial, optimizer.make(steps.LAMB, 10))


def shapes(config):
  return partitioning.state_shapes(init, partitioning.make_layout(config))


def test_initial_values_do_not_depend_on_the_mesh():
  def init():
    key = jax.random.key(3)
    params = {"pooler": {"dense": {"kernel": jax.random.normal(key, (64, 32))}}}
    return TrainState(jnp.int32(0), params, (), key)

  alone = meshes.make_mesh(MeshConfig(), jax.devices()[:1])
  one = partitioning.init_state(init, partitioning.Layout(alone))
  split = partitioning.init_state(init, partitioning.make_layout(SPLIT))
  kernel = split.params["pooler"]["dense"]["kernel"]
  assert kernel.addressable_shards[0].data.shape == (32, 16)
  np.testing.assert_array_equal(kernel, one.params["pooler"]["dense"]["kernel"])


# On meshes that use all three axes, with the word embedding's width split over
# `fsdp`, XLA (jax 0.10.1, CPU) computed wrong gradients, silently.
@pytest.mark.parametrize(
  "config",
  [MeshConfig(shard_optimizer=True), MeshConfig(1, 8, 1), SPLIT],
  ids=str,
)
def test_an_update_is_that_of_one_device(config):
  found = steps.assert_as_on_one_device(config)
  sent = hlo.collective_bytes(found.program)
  sizes = {
    path: leaf.size * leaf.dtype.itemsize
    for path, leaf in trees.flatten(found.state.params).items()
  }
  if config.model == 1:
    # The embedding is used twice, as such and to tell words apart, and XLA
    # sums its gradients over the rows once for each.
    gradients = sum(sizes.values()) + sizes[WORDS]
    assert sent.pop("all-reduce") == pytest.approx(gradients, rel=0.02)
    gathered = split_bytes(found.state, config)
    assert sent == {"all-gather": pytest.approx(gathered, rel=0.02)}


def split_bytes(state, config):
  """What is gathered from all devices: updates (ZeRO-1), or parameters."""
  if config.shard_optimizer:
    prefix = "1/0/mu/"
    found = trees.flatten(state.optimizer_state)
  else:
    prefix, found = "", trees.flatten(state.params)
  return sum(
    leaf.size * leaf.dtype.itemsize
    for path, leaf in found.items()
    if path.startswith(prefix)
    and math.prod(leaf.sharding.shard_shape(leaf.shape)) < leaf.size
  )


def test_a_teacher_gives_the_same_on_any_mesh(tmp_path):
  task = steps.task()
  workdir.save(task, pytrees.of_task(task), tmp_path)
  config = TeacherConfig(str(tmp_path), gold=0.0, hidden=1.0, relations=1.0)
  models, found = teacher.open_models(config, task.name), []
  student = teacher.observed(task, config, models[0])
  params = pytrees.of_task(student, seed=1)
  for sizes, devices in ((MeshConfig(), jax.devices()[:1]), (SPLIT, None)):
    layout = partitioning.make_layout(sizes, devices)
    teaches = teacher.Teacher.load(config, models, task, layout)
    batch = teaches(meshes.put_batch(steps.batch(), layout.mesh))
    states = batch.targets["teacher/hidden_states"]
    rows = 64 // meshes.batch_devices(layout.mesh)
    assert states.addressable_shards[0].data.shape[0] == rows
    loss = objective.make_loss(student, config, teaches.plan.heads)
    with jax.set_mesh(layout.mesh):
      found.append(
        jax.jit(
          lambda params, batch, loss=loss: loss(
            student.module.apply({"params": params}, batch), batch
          )
        )(partitioning.put_copy(layout, params), batch)
      )
  assert len(found[0]) == 4
  for name, mean in found[0].items():
    other = found[1][name]
    assert float(mean.total) > 0.1
    np.testing.assert_allclose(mean, other, rtol=1e-5, err_msg=name)


def test_the_optimizer_is_split_over_data_where_it_is_asked_for():
  leaves = trees.flatten(shapes(MeshConfig(2, 2, 2, shard_optimizer=True)))
  for name, plain, split in (
    ("word", P(("model", "fsdp")), P(("model", "fsdp", "data"), None)),
    ("position", P(), P("data", None)),
  ):
    path = f"encoder/embeddings/{name}/embedding"
    assert leaves[f"params/{path}"].sharding.spec == plain
    assert leaves[f"optimizer_state/1/0/mu/{path}"].sharding.spec == split


def test_arrays_lie_where_the_table_says():
  leaves = trees.flatten(shapes(SPLIT))
  for prefix in ("params", "optimizer_state/1/0/mu", "optimizer_state/1/0/nu"):
    for path, spec in {
      WORDS: P(("model", "fsdp")),
      "encoder/layer_0/attention/output/kernel": P("model", "fsdp"),
      "encoder/layer_0/attention_norm/scale": P(),
    }.items():
      assert leaves[f"{prefix}/{path}"].sharding.spec == spec
  for path in ("step", "key", "optimizer_state/1/0/count"):
    assert leaves[path].sharding.is_fully_replicated


def test_rows_go_over_data_and_fsdp_in_order():
  mesh, batch = meshes.make_mesh(SPLIT), steps.batch()
  rows = meshes.put_batch(batch, mesh)
  np.testing.assert_array_equal(rows.token_ids, batch.token_ids)
  assert rows.token_ids.addressable_shards[0].data.shape == (16, 8)
  assert meshes.batch_devices(mesh) == 4


def test_rows_that_do_not_divide():
  with user_error("6 rows do not divide over 4 devices"):
    meshes.put_batch(np.zeros((6, 8)), meshes.make_mesh(SPLIT))


@pytest.mark.parametrize(
  "config",
  [MeshConfig(3), MeshConfig(-1, 3), MeshConfig(-1, 4, 4), MeshConfig(1, 2, 2)],
)
def test_a_mesh_that_does_not_fit(config):
  with user_error(r"config.mesh: .* 8 devices"):
    meshes.make_mesh(config)


def test_a_dimension_that_does_not_divide():
  layout = partitioning.make_layout(MeshConfig(1, 1, 8))
  params = {"masked_lm": {"bias": jax.ShapeDtypeStruct((30522,), jnp.float32)}}
  with user_error(
    r"masked_lm/bias: a dimension of 30522 .* 8 devices.*vocab_multiple"
  ):
    partitioning.shardings(layout, params)


def test_a_published_vocabulary_is_padded_for_a_mesh(tmp_path):
  task = TASKS["masked_lm"].for_published()
  encoder = dataclasses.replace(folders.encoder("bert"), vocab_size=30)
  task = task.bind(encoder, small.tokenizer())
  one = Model(task, jax.device_put(pytrees.of_task(task, scale=0.2)))
  bert_jax.save(one, tmp_path / "model")
  split = bert_jax.load(tmp_path / "model", mesh=meshes.make_mesh(SPLIT))
  words = trees.flatten(split.params)[WORDS]
  assert words.shape == (32, 16)
  assert words.addressable_shards[0].data.shape == (8, 16)
  (wanted,), (found,) = one("the [MASK]"), split("the [MASK]")
  assert [x.token for x in found] == [x.token for x in wanted]
  for a, b in zip(found, wanted):
    assert a.probability == pytest.approx(b.probability, abs=1e-5)
  bert_jax.save(split, tmp_path / "again")
  name = "model.safetensors"
  saved = [(tmp_path / x / name).read_bytes() for x in ("model", "again")]
  assert saved[0] == saved[1]


def test_a_checkpoint_goes_from_mesh_to_mesh(tmp_path):
  saved = partitioning.init_state(init, partitioning.make_layout(SPLIT))
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(saved, {})
    for config in (SPLIT, MeshConfig(), MeshConfig(1, 8, 1)):
      target = shapes(config)
      state, _ = checkpoints.restore(target)
      wanted = trees.flatten(target)
      for path, leaf in trees.flatten(state).items():
        assert leaf.sharding.is_equivalent_to(wanted[path].sharding, leaf.ndim)
      jax.tree.map(np.testing.assert_array_equal, state.params, saved.params)
      np.testing.assert_array_equal(
        jax.random.key_data(state.key), jax.random.key_data(saved.key)
      )
  params = restore_params(tmp_path, jax.eval_shape(lambda: saved.params))
  jax.tree.map(np.testing.assert_array_equal, params, saved.params)
  assert params["pooler"]["dense"]["kernel"].devices() == {jax.devices()[0]}


@pytest.mark.parametrize(
  ("backend", "depth", "rate"), [("splash", 2, 0), ("short", 64, 0.25)]
)
def test_attention_kernels_see_the_rows_and_heads_of_their_device(
  backend, depth, rate
):
  mesh = meshes.make_mesh(SPLIT)
  rng = np.random.default_rng(0)
  x = np.float32(rng.normal(size=(3, 8, 6, 4, depth)))
  ids = np.int32(np.arange(6) < rng.integers(1, 7, (8, 1)))
  split = NamedSharding(mesh, P(None, ("data", "fsdp"), None, "model"))

  def mixed(x, backend):
    dropout = attention.Dropout(rate, jax.random.key(0)) if rate else None
    out = attention.attention(
      *x, attention.Tokens(ids), backend=backend, dropout=dropout
    )
    return (out**2).sum()

  gradient = jax.grad(mixed)
  with jax.set_mesh(mesh):
    kernel = jax.jit(
      functools.partial(gradient, backend=backend), out_shardings=split
    )
    compiled = kernel.lower(jax.device_put(x, split)).compile()
  found = compiled(jax.device_put(x, split))
  np.testing.assert_allclose(found, gradient(x, "xla"), atol=2e-5)
  assert not hlo.collective_bytes(hlo.parse(compiled.as_text()))

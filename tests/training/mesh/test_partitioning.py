import functools
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from bert_jax import settings, trees
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks import TASKS
from bert_jax.training.mesh import meshes, partitioning
from bert_jax.training.mesh.meshes import MeshConfig
from bert_jax.training.train import init_params
from tests import compiling
from tests.errors import user_error

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="module")
def mesh():
  return meshes.make_mesh(MeshConfig(), jax.devices()[:1])


def shard(mesh, params, *rules):
  return partitioning.shardings(partitioning.Layout(mesh, *rules), params)


def test_on_eight_devices(tmp_path):
  done = subprocess.run(
    [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-x"]
    + [f"--basetemp={tmp_path / 'eight'}", str(HERE / "on_eight_devices.py")],
    env=compiling.simulated(8),
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stdout + done.stderr


def test_the_table_has_a_row_for_every_parameter(mesh):
  task = TASKS["pretraining"].bind(EncoderConfig(num_layers=1), None)
  shapes = jax.eval_shape(functools.partial(init_params, task))
  found = {
    path: tuple(sharding.spec)
    for path, sharding in trees.flatten(shard(mesh, shapes)).items()
  }
  layer = "encoder/layer_0"
  for path, wanted in {
    "encoder/embeddings/word/embedding": (("model", "fsdp"),),
    "encoder/embeddings/norm/scale": (),
    f"{layer}/attention/value/kernel": ("fsdp", "model"),
    f"{layer}/attention/value/bias": ("model",),
    f"{layer}/attention/output/kernel": ("model", "fsdp"),
    f"{layer}/attention/output/bias": (),
    f"{layer}/attention_norm/bias": (),
    f"{layer}/feed_forward/intermediate/kernel": ("fsdp", "model"),
    f"{layer}/feed_forward/output/kernel": ("model", "fsdp"),
    "masked_lm/bias": ("model",),
  }.items():
    assert found[path] == wanted, path


def test_a_parameter_without_a_row_for_its_whole_path_is_named(mesh):
  with user_error("adapter/kernel: no row"):
    shard(mesh, {"adapter": {"kernel": jnp.zeros((4, 4))}})
  params = {"pooler": {"kernel": {"extra": jnp.zeros(4)}}}
  with user_error("pooler/kernel/extra: no row"):
    shard(mesh, params, [("pooler/kernel", ("model",))])


def test_the_first_row_wins(mesh):
  rules = [("a/.*", ("model",)), ("a/b", ("fsdp",))]
  found = shard(mesh, {"a": {"b": jnp.zeros(4)}}, rules)
  assert found["a"]["b"].spec == jax.P("model")


@pytest.mark.parametrize(
  ("axes", "message"),
  [(("tensor",), "names tensor; known: data"), ((None, None), "more dim")],
)
def test_a_wrong_row_is_named(mesh, axes, message):
  with user_error(f"parameter a: .*{message}"):
    shard(mesh, {"a": jnp.zeros(4)}, [("a", axes)])


def test_rows_of_a_recipe_come_first():
  # A ConfigDict has tuples, the JSON that a run is kept in has lists.
  for rules in (
    [(".+/value/kernel", (None, ("fsdp", "model")))],
    [[".+/value/kernel", [None, ["fsdp", "model"]]]],
  ):
    config = settings.from_dict(MeshConfig, {"rules": rules}, "config.mesh")
    layout = partitioning.make_layout(config, jax.devices()[:1])
    params = {"layer_0": {"attention": {"value": {"kernel": jnp.ones((2, 2))}}}}
    (found,) = jax.tree.leaves(partitioning.shardings(layout, params))
    assert found.spec == jax.P(None, ("fsdp", "model"))


@pytest.mark.parametrize("rules", ["query", [("a",)], [(1, ())], [("a", "b")]])
def test_a_row_of_a_recipe_that_is_none_is_named(rules):
  with user_error(r"config.mesh.rules: expected"):
    settings.from_dict(MeshConfig, {"rules": rules}, "config.mesh")


@pytest.mark.parametrize(
  "section", [{"data": 0}, {"data": -2}, {"fsdp": 0}, {"model": -2}]
)
def test_a_wrong_config_is_named(section):
  (key,) = section
  with user_error(rf"config.mesh.{key}: "):
    settings.from_dict(MeshConfig, section, "config.mesh")

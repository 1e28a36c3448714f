"""Adapters: folders of peft, merged into a model and beside it."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

import bert_jax
from bert_jax import trees
from bert_jax.interop.peft import Adapter
from bert_jax.loading import load_adapted
from bert_jax.model import Model
from bert_jax.models.low_rank import LowRank
from bert_jax.models.pooling import VectorModule
from bert_jax.serving import versions
from bert_jax.serving.opening import Opener
from bert_jax.serving.settings import ServeSettings
from tests import pytrees
from tests.errors import user_error
from tests.interop import folders

RANK, SCALE = 2, 1.5
TEXTS = ["the array is in place", "it sorts a list"]
# As peft 0.21 names them.
NAMES = {
  "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight": (
    RANK,
    16,
  ),
  "base_model.model.bert.encoder.layer.1.output.dense.lora_A.weight": (
    RANK,
    32,
  ),
  "base_model.model.bert.encoder.layer.1.output.dense.lora_B.weight": (
    16,
    RANK,
  ),
  "base_model.model.bert.pooler.dense.weight": (16, 16),
  "base_model.model.classifier.bias": (2,),
}


def adapter(model, where, kernels, seed=1):
  """A random adapter of some kernels of a saved model, with other heads."""
  params = trees.flatten(model.params)
  rng = np.random.default_rng(seed)

  def draw(*shape):
    return rng.normal(0, 0.3, shape).astype(np.float32)

  products = {
    path: LowRank(
      draw(params[path].shape[0], RANK),
      draw(RANK, params[path].shape[1]),
      SCALE,
    )
    for path in kernels
  }
  heads = {name: x for name, x in model.params.items() if name != "encoder"}
  own = pytrees.draw(heads, seed=seed)
  return Adapter("made", str(where), model.task, products, own)


def make(folder, family, task, kernels):
  """Saves a model and an adapter of it, and returns both."""
  model = folders.model(family, task)
  bert_jax.save(model, folder / "base")
  made = adapter(model, folder / "base", kernels)
  beside = model.with_adapter(made)
  bert_jax.save(beside, folder / "adapter", "peft")
  return model, made, beside


KERNELS = (
  "encoder/layer_0/attention/query/kernel",
  "encoder/layer_1/feed_forward/output/kernel",
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  folder = tmp_path_factory.mktemp("peft")
  make(folder, "bert", "classification", KERNELS)
  return folder


def test_folders_have_the_names_of_peft(home):
  path = home / "adapter" / "adapter_model.safetensors"
  tensors = safetensors.numpy.load_file(path)
  assert NAMES.items() <= {n: x.shape for n, x in tensors.items()}.items()
  assert len(tensors) == 2 * len(KERNELS) + 4
  config = json.loads((home / "adapter" / "adapter_config.json").read_text())
  assert config["peft_type"] == "LORA"
  assert config["task_type"] == "SEQ_CLS"
  assert config["base_model_name_or_path"] == str(home / "base")
  assert (config["r"], config["lora_alpha"]) == (RANK, SCALE * RANK)
  assert config["modules_to_save"] == ["bert.pooler", "classifier"]


def test_an_adapter_is_merged_or_beside_its_model(home):
  base = bert_jax.load(home / "base")
  made = adapter(base, home / "base", KERNELS)
  merged = trees.flatten(bert_jax.load(home / "adapter").params)
  before = trees.flatten(base.params)
  for path, value in merged.items():
    expected = before[path]
    if path in KERNELS:
      a, b, scale = made.products[path]
      expected = expected + scale * (a @ b)
    elif not path.startswith("encoder/"):
      expected = trees.flatten(made.params)[path]
    np.testing.assert_allclose(value, expected, atol=1e-6, err_msg=path)
  beside = load_adapted(home / "adapter")
  plain = bert_jax.load(home / "adapter")
  assert beside.task.state() == plain.task.state()
  for one, other in zip(beside(TEXTS), plain(TEXTS)):
    for mine, theirs in zip(one, other):
      assert mine.label == theirs.label
      assert abs(mine.probability - theirs.probability) < 1e-6
  np.testing.assert_allclose(beside.embed(TEXTS), plain.embed(TEXTS), atol=1e-6)
  np.testing.assert_allclose(
    beside.encode(TEXTS).last_hidden_state,
    plain.encode(TEXTS).last_hidden_state,
    atol=1e-6,
  )


def test_adapters_share_the_arrays_of_one_model(home, tmp_path):
  base = bert_jax.load(home / "base")
  one = base.with_adapter(home / "adapter")
  other = one.with_adapter(adapter(base, home / "base", KERNELS[:1], seed=2))
  assert other.base is base and one.base is base
  shared = {id(x) for x in jax.tree.leaves(base.params["encoder"])}
  for model in (one, other):
    held = {id(x) for x in jax.tree.leaves(model.params["encoder"])}
    assert shared <= held
  # What was beside one kernel only is not in the other.
  assert trees.count(one.params) > trees.count(other.params)
  # Saved, it is an ordinary model.
  bert_jax.save(one, tmp_path / "merged", "bert_jax")
  pytrees.assert_equal(
    bert_jax.load(tmp_path / "merged").params, one.in_float32().params
  )


def test_a_server_holds_their_model_once(home, tmp_path):
  shutil.copytree(home / "adapter", tmp_path / "adapter")
  settings = ServeSettings({"m": "unused"}, engine="jax")
  opener = Opener(settings, None, tmp_path)
  (one, engine), (other, _), (base, _) = map(
    opener.open,
    map(str, (home / "adapter", tmp_path / "adapter", home / "base")),
  )
  assert engine == "jax"
  assert one.base is base and other.base is base
  assert versions.is_model(str(home / "adapter"))


def test_adapters_go_with_a_model_in_8_bits(home):
  base = bert_jax.load(home / "base", dtype="int8")
  beside = base.with_adapter(home / "adapter")
  params = beside.params["encoder"]["layer_1"]["feed_forward"]["output"]
  assert params["kernel"]["base"]["int8"].dtype == np.int8
  expected = trees.flatten(base.in_float32().params)
  found = trees.flatten(beside.in_float32().params)
  for path in KERNELS:
    product = beside.adapter.products[path]
    np.testing.assert_allclose(
      found[path],
      expected[path] + product.scale * product.a @ product.b,
      atol=1e-6,
    )


def test_kernels_that_are_one_in_transformers(tmp_path):
  kernels = [
    f"encoder/layer_0/attention/{name}/kernel" for name in ("query", "value")
  ]
  _, _, beside = make(tmp_path, "modernbert", "tagging", kernels)
  path = tmp_path / "adapter" / "adapter_model.safetensors"
  shapes = {n: x.shape for n, x in safetensors.numpy.load_file(path).items()}
  module = "base_model.model.model.layers.0.attn.Wqkv"
  # Side by side, with zeros for the keys.
  assert shapes[f"{module}.lora_A.weight"] == (2 * RANK, 16)
  assert shapes[f"{module}.lora_B.weight"] == (3 * 16, 2 * RANK)
  found = trees.flatten(bert_jax.load(tmp_path / "adapter").params)
  for path, x in trees.flatten(beside.in_float32().params).items():
    np.testing.assert_allclose(found[path], x, atol=1e-6, err_msg=path)


def test_adapters_of_embeddings_have_the_layers_after_pooling(tmp_path):
  plain = folders.model("bert", "embedding")
  ((name, target),) = plain.task.targets.items()
  layer = VectorModule("dense", 4, True, "tanh")
  task = plain.task.with_targets(
    {name: dataclasses.replace(target, modules=(layer,), normalize=True)}
  )
  model = Model(task, pytrees.of_task(task))
  bert_jax.save(model, tmp_path / "base")
  made = adapter(model, tmp_path / "base", KERNELS)
  beside = model.with_adapter(made)
  bert_jax.save(beside, tmp_path / "adapter", "peft")
  again = bert_jax.load(tmp_path / "adapter")
  assert again.task.state() == task.state()
  for path, x in trees.flatten(beside.in_float32().params).items():
    found = trees.flatten(again.params)[path]
    np.testing.assert_allclose(found, x, atol=1e-6, err_msg=path)


def change(folder, **settings):
  path = folder / "adapter_config.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"peft_type": "IA3"}, "peft_type: expected LORA, got 'IA3'"),
    ({"use_dora": True}, "use_dora: True is not supported"),
    ({"init_lora_weights": "pissa"}, "'pissa' changes the base model"),
    ({"lora_alpha": "8"}, "lora_alpha: expected numbers"),
    ({"base_model_name_or_path": None}, "no base_model_name_or_path"),
    ({"base_model_name_or_path": "a/b/c"}, "its base model a/b/c: no such"),
  ],
)
def test_settings_that_are_not_supported(home, tmp_path, settings, message):
  folder = shutil.copytree(home / "adapter", tmp_path / "adapter")
  change(folder, **settings)
  with user_error(message):
    bert_jax.load(folder)
  change(folder, base_model_name_or_path=str(folder))
  with user_error("base_model_name_or_path: this folder itself"):
    bert_jax.load(folder)


def test_adapters_of_other_models_are_one_line(home, tmp_path):
  folder = shutil.copytree(home / "adapter", tmp_path / "adapter")
  wide = folders.model("distilbert", "classification")
  with user_error("no dense layer of this distilbert model is adapted by"):
    wide.with_adapter(folder)
  path = folder / "adapter_model.safetensors"
  tensors = safetensors.numpy.load_file(path)
  name = next(n for n in tensors if "query.lora_A" in n)
  changed = tensors | {name: np.zeros((RANK, 24), np.float32)}
  safetensors.numpy.save_file(changed, path)
  with user_error(r"an adapter for another model: .* is \[16, 16\]"):
    bert_jax.load(folder)
  path.unlink()
  with user_error("expected adapter_model.safetensors"):
    bert_jax.load(folder)
  model = bert_jax.load(home / "base")
  with user_error("no adapter; expected a run"):
    model.with_adapter(home / "base")
  with user_error("no adapter; expected a run"):
    load_adapted(home / "base")
  head = folders.model("bert", "masked_lm")
  with user_error("cannot be saved for peft: a masked-LM head"):
    beside = head.with_adapter(adapter(head, "base", KERNELS))
    bert_jax.save(beside, tmp_path / "x", "peft")
  with user_error("peft: expected a model of `with_adapter`"):
    bert_jax.save(model, tmp_path / "x", "peft")
  assert not (tmp_path / "x").exists()

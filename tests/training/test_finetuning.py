import dataclasses
import functools
import itertools

import jax
import pytest

from bert_jax import settings, trees
from bert_jax.tasks import TASKS
from bert_jax.training import finetuning
from bert_jax.training.finetuning import FinetuningConfig
from bert_jax.training.train import init_params
from tests import small
from tests.errors import user_error
from tests.models.test_families import MODERN, make_batch

SMALL = dataclasses.replace(small.ENCODER, vocab_size=40, num_layers=3)
TASK = TASKS["classification"].with_labels(["no", "yes"])
ALBERT = dataclasses.replace(SMALL, shared_layers=True, embedding_size=8)


@functools.cache
def _shapes(config):
  """Of a sequence classifier, and of one under the name of its task."""
  task = TASK.bind(config, None)
  params = jax.eval_shape(functools.partial(init_params, task))
  return params, {
    "encoder": params["encoder"],
    "sst2": {name: params[name] for name in ("pooler", "classifier")},
  }


def _parts(mask):
  """What is marked, by parts that are marked as a whole."""
  parts = {}
  for path, marked in trees.flatten(mask).items():
    steps = path.split("/")
    part = "/".join(steps[: 2 if steps[0] in ("encoder", "sst2") else 1])
    parts.setdefault(part, set()).add(marked)
  assert all(len(marks) == 1 for marks in parts.values()), parts
  return {part.replace("encoder/", "") for part, m in parts.items() if m.pop()}


@pytest.mark.parametrize(
  ("config", "options", "wanted"),
  [
    (SMALL, {}, set()),
    (SMALL, {"freeze_embeddings": True}, {"embeddings"}),
    (SMALL, {"freeze_layers": 2}, {"embeddings", "layer_0", "layer_1"}),
    (SMALL, {"freeze": [r"encoder/layer_[02]/.*"]}, {"layer_0", "layer_2"}),
    (
      SMALL,
      {"freeze": [r"(.+/)?pooler/.*"], "freeze_layers": 1},
      {"embeddings", "layer_0", "pooler"},
    ),
    (ALBERT, {"freeze_embeddings": True}, {"embeddings"}),
    (ALBERT, {"freeze_layers": 1}, {"embeddings", "layer_0"}),
    (
      MODERN,
      {"freeze_layers": 3},
      {"embeddings", "layer_0", "layer_1", "layer_2", "final_norm"},
    ),
  ],
)
def test_what_is_frozen(config, options, wanted):
  for params in _shapes(config):
    config = settings.from_dict(FinetuningConfig, options, "config.finetuning")
    parts = _parts(finetuning.frozen(params, config))
    assert {part.replace("sst2/", "") for part in parts} == wanted


def test_a_pattern_must_match_the_whole_path_of_some_parameter():
  params, _ = _shapes(SMALL)
  config = FinetuningConfig(freeze=("encoder/layer_1", "pooler/.*"))
  with user_error() as error:
    finetuning.frozen(params, config)
  message = "config.finetuning.freeze: 'encoder/layer_1' matches no parameter"
  assert str(error.value).startswith(f"{message}; the closest are encoder/")


@pytest.mark.parametrize(
  ("config", "options", "wanted"),
  [
    (SMALL, {}, set()),
    (SMALL, {"reinit_layers": 1}, {"layer_2", "pooler"}),
    (SMALL, {"reinit_layers": 2}, {"layer_1", "layer_2", "pooler"}),
    (ALBERT, {"reinit_layers": 1}, {"layer_0", "pooler"}),
    (MODERN, {"reinit_layers": 1}, {"layer_2", "final_norm", "pooler"}),
    (
      ALBERT,
      {"from_scratch": True},
      {"embeddings", "layer_0", "pooler", "classifier"},
    ),
  ],
)
def test_what_begins_anew(config, options, wanted):
  alone, among_tasks = (
    _parts(finetuning.reinitialized(params, FinetuningConfig(**options)))
    for params in _shapes(config)
  )
  assert alone == wanted
  assert {part.replace("sst2/", "") for part in among_tasks} == wanted


def test_top_layers_are_the_same_ones_with_no_head_on_them():
  params = {"encoder": _shapes(SMALL)[0]["encoder"]}
  config = FinetuningConfig(freeze_layers=1, reinit_layers=1)
  assert _parts(finetuning.reinitialized(params, config)) == {"layer_2"}
  assert _parts(finetuning.frozen(params, config)) == {"embeddings", "layer_0"}


@pytest.mark.parametrize(
  ("config", "options", "message"),
  [
    (SMALL, {"freeze_layers": 4}, "freeze_layers: 4 layers, but .* has 3$"),
    (SMALL, {"reinit_layers": 4}, "reinit_layers: 4 layers, but .* has 3$"),
    (ALBERT, {"freeze_layers": 2}, "freeze_layers: 2 .* has 1 shared"),
    (
      SMALL,
      {"freeze_layers": 2, "reinit_layers": 2},
      "reinit_layers: 2 layers and 2 frozen ones, but",
    ),
    (SMALL, {"freeze_layers": -1}, "freeze_layers: expected at least 0"),
    (SMALL, {"reinit_layers": True}, "reinit_layers: expected int"),
    (SMALL, {"freeze": ["("]}, r"freeze: '\(' is not a regular expression"),
    (SMALL, {"frieze": 1}, "frieze: unknown key; did you mean 'freeze'"),
  ],
)
def test_a_wrong_config_is_named(config, options, message):
  where = "config.finetuning"
  with user_error(f"{where}.{message}"):
    finetuning.check(
      settings.from_dict(FinetuningConfig, options, where), config
    )


def test_all_layers_can_be_frozen_or_split():
  for freeze, reinit in ((3, 0), (0, 3), (2, 1)):
    finetuning.check(
      FinetuningConfig(freeze_layers=freeze, reinit_layers=reinit), SMALL
    )


def test_the_backward_pass_ends_where_nothing_is_trained():
  task, batch = TASK.bind(SMALL, None), make_batch(rows=4)
  params = _shapes(SMALL)[0]

  def flops(layers):
    mask = finetuning.frozen(params, FinetuningConfig(freeze_layers=layers))

    def loss(params):
      params = finetuning.stop_frozen(params, mask)
      return task.module.apply({"params": params}, batch)["classifier"].sum()

    return jax.jit(jax.grad(loss)).lower(params).cost_analysis()["flops"]

  costs = [flops(layers) for layers in range(4)]
  # With all layers frozen only the forward pass, a third, is left of them.
  assert costs[3] < 0.45 * costs[0]
  saved = [before - after for before, after in itertools.pairwise(costs)]
  assert min(saved) > 0.1 * costs[0]


def test_only_frozen_parameters_have_no_gradient():
  params = {"encoder": {"embeddings": {"a": 2.0}}, "pooler": {"b": 3.0}}
  mask = finetuning.frozen(params, FinetuningConfig(freeze_embeddings=True))

  def loss(params):
    params = finetuning.stop_frozen(params, mask)
    return params["encoder"]["embeddings"]["a"] * params["pooler"]["b"]

  gradient = trees.flatten(jax.grad(loss)(params))
  assert gradient == {"encoder/embeddings/a": 0.0, "pooler/b": 2.0}

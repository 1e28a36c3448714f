"""Several tasks on one encoder."""

import jax
import numpy as np
import pytest

import bert_jax
from bert_jax import tasks, trees
from bert_jax.training import evaluation, workdir
from bert_jax.training.mesh import meshes
from bert_jax.training.recipe import Recipe
from tests import pytrees
from tests.errors import user_error
from tests.tasks import learnable

NAMES = ("multi_label", "tagging")
PARTS = ("multi", "taggi")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  """A task of two parts that has been saved, and a task by itself."""
  home = tmp_path_factory.mktemp("several")
  task, _ = make(home)
  workdir.save(task, pytrees.of_task(task), home / "several")
  config = learnable.recipe(home, "tagging")
  alone, _ = Recipe.from_dict(config).make_task()
  workdir.save(alone, pytrees.of_task(alone), home / "tagging")
  return home


def recipe(home, **changes):
  tasks = learnable.parts(home, names=NAMES)
  vocabulary = learnable.tokenizer(home)
  data = {"tasks": tasks, "tokenizer": vocabulary}
  return learnable.recipe(home, "multi_task", data=data, **changes)


def make(home, **changes):
  return Recipe.from_dict(recipe(home, **changes)).make_task()


def test_parts_share_an_encoder_and_keep_their_heads(home):
  params = bert_jax.load(home / "several").params
  assert params.keys() == {"encoder", *PARTS}
  assert params["multi"].keys() == {"pooler", "classifier"}
  assert params["taggi"].keys() == {"classifier"}


def test_a_part_alone_answers_as_it_does_among_the_others(home):
  whole = bert_jax.load(home / "several")
  for name, part in zip(NAMES, PARTS):
    records = learnable.records(name, 5, seed=9)
    asked = [{**record, "task": part} for record in records]
    alone = bert_jax.load(home / "several", task=part)
    assert alone.task.name == name
    for one, other in zip(whole(asked), alone(records)):
      assert len(one) == len(other)
      for a, b in zip(one, other):
        assert a.label == b.label
        assert a.probability == pytest.approx(b.probability, abs=1e-5)


def test_the_mean_metric_is_that_of_the_first_of_each_part(home):
  task, data = make(home)
  params = bert_jax.load(home / "several").params
  mesh = meshes.make_mesh(meshes.MeshConfig())
  values, tuned = evaluation.make(task, data, mesh, 4, None)(params)
  firsts = [values["multi/micro_f1"], values["taggi/f1"]]
  assert values["mean"] == pytest.approx(np.mean(firsts))
  assert {"multi/loss", "taggi/loss"} <= {*values}
  assert "taggi/accuracy_majority_baseline" in values
  # Thresholds are tuned in the targets of their part.
  assert tuned.parts["multi"].targets["labels"].thresholds
  assert not task.parts["multi"].targets["labels"].thresholds
  assert tuned.parts["taggi"].targets == task.parts["taggi"].targets


def test_a_batch_gives_no_gradient_to_the_other_heads(home):
  task, data = make(home)
  params = bert_jax.load(home / "several").params
  stream = data.training(4, 0, None)
  batches = (stream.batch(i, range(4)) for i in range(20))
  batch = next(b for b in batches if b.task == "taggi")
  assert "tags/labels" in batch.targets

  def loss(params):
    outputs = task.module.apply({"params": params}, batch)
    (mean,) = task.loss(outputs, batch).values()
    return mean.value()

  gradients = trees.flatten(jax.jit(jax.grad(loss))(params))
  for path, gradient in gradients.items():
    is_other = path.startswith("multi/")
    assert np.any(gradient) != is_other or path.endswith("key/bias"), path


def test_the_temperature_is_that_of_sizes(home):
  config = recipe(home)
  config["data"]["tasks"]["taggi"] |= learnable.data(home, "tagging", 48)
  del config["data"]["tasks"]["taggi"]["tokenizer"]
  for temperature, shares in ((1.0, (0.2, 0.8)), (2.0, (1 / 3, 2 / 3))):
    config["data"]["temperature"] = temperature
    _, data = Recipe.from_dict(config).make_task()
    stream = data.training(4, 0, None)
    np.testing.assert_allclose(stream.probabilities, shares)
  # Other tests read the smaller file.
  learnable.data(home, "tagging")


def continued(home, config, init):
  pretrained = workdir.open_model(home / init)
  config = {**config, "init": str(home / init), "model": {}}
  task, _ = Recipe.from_dict(config).make_task(pretrained)
  return task, *pretrained.params(task)


@pytest.mark.parametrize(
  ("init", "expected"), [("several", ()), ("tagging", ("multi",))]
)
def test_heads_of_the_same_labels_are_gone_on_from(home, init, expected):
  _, params, anew = continued(home, recipe(home), init)
  assert anew == expected
  before = bert_jax.load(home / init).params
  own = before["taggi"] if init == "several" else before
  for name in ("kernel", "bias"):
    np.testing.assert_array_equal(
      params["taggi"]["classifier"][name], own["classifier"][name]
    )


def test_a_part_with_other_labels_starts_from_initial_values(home):
  config = recipe(home)
  rows = learnable.records("multi_label")
  for row in rows:
    row["labels"] = [label.upper() for label in row["labels"]]
  path = learnable.write(home / "upper.jsonl", rows)
  config["data"]["tasks"]["multi"] |= {"train": path, "eval": path}
  task, params, anew = continued(home, config, "several")
  assert anew == ("multi",)
  assert task.parts["multi"].targets["labels"].labels == (
    "ARRAY",
    "LIST",
    "SORTS",
  )
  before = bert_jax.load(home / "several").params
  np.testing.assert_array_equal(
    params["taggi"]["classifier"]["kernel"],
    before["taggi"]["classifier"]["kernel"],
  )


def test_every_sample_of_the_evaluation_records_has_all_parts(home):
  evaluation = make(home)[1].evaluation()
  assert evaluation.sample(None) is evaluation.sample(14) is evaluation
  for count in (1, 2, 6, 10):
    sample = evaluation.sample(count)
    found = [record["task"] for record in sample.records]
    assert len(found) == len(sample.examples) == max(count, 2)
    assert found.count("multi") == len(found) / 2
    assert sample.records == evaluation.sample(count).records
  assert sample.records != evaluation.records[:10]


@pytest.mark.parametrize(
  "record", [{"text": "it"}, {"text": "it", "task": "x"}]
)
def test_a_record_says_which_part_it_is_for(home, record):
  with user_error(r"task: unknown .*; known: multi, taggi"):
    bert_jax.load(home / "several")(record)


@pytest.mark.parametrize(
  ("tasks", "message"),
  [
    ({}, "config.data.tasks: expected at least one, got none"),
    ({"a": {"task": "masked_lm"}}, "config.data.tasks.a.task: unknown 'masked"),
    ({"a": {}}, "config.data.tasks.a.task: unknown ''; known: classification"),
    ({"a": "tagging"}, "config.data.tasks.a: expected a section, got 'tagging"),
    ({"a/b": {"task": "tagging"}}, "tasks.a/b: a task cannot have this name"),
    ({"encoder": {"task": "tagging"}}, "encoder: a task cannot have this name"),
    (
      {"a": {"task": "tagging", "max_lenght": 3}},
      "config.data.tasks.a.max_lenght: unknown key; did you mean 'max_length'",
    ),
  ],
)
def test_the_section_is_checked(tmp_path, tasks, message):
  config = learnable.recipe(tmp_path)
  config = {**config, "task": "multi_task", "data": {"tasks": tasks}}
  with user_error() as error:
    Recipe.from_dict(config)
  assert message in str(error.value)


def test_a_mistake_in_a_part_is_said_to_be_there(home):
  config = recipe(home)
  config["data"]["tasks"]["taggi"]["train"] = "nowhere.jsonl"
  with user_error(r"config\.data\.tasks\.taggi\.train: "):
    Recipe.from_dict(config).make_task()


def test_every_labelled_task_can_be_a_part():
  for name in tasks.LABELLED:
    config = tasks.DATA["multi_task"](tasks={"part": {"task": name}})
    assert config.part("part").TASK.name == name

"""A contract over all tasks that are fine-tuned."""

import functools
import warnings
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

import bert_jax
from bert_jax import trees
from bert_jax.data import grouping
from bert_jax.tasks import LABELLED
from bert_jax.training import evaluation, workdir
from bert_jax.training.mesh import meshes
from bert_jax.training.recipe import Recipe
from tests.errors import user_error
from tests.tasks import learnable

TASKS = (*LABELLED, "multi_task")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("learnable")


def make(folder, name, **changes):
  return Recipe.from_dict(learnable.recipe(folder, name, **changes)).make_task()


def gold_batches(task, name, rows, length):
  """A batch of a few labelled records, or one for each part."""
  if name == "multi_task":
    records = [
      {**record, "task": part}
      for part, own in task.parts.items()
      for record in learnable.records(own.name, 3)
    ]
  else:
    records = learnable.records(name, 3)
  kinds = {}
  for record in records:
    for example in task.preprocess(record, labelled=True):
      kinds.setdefault(jax.tree.structure(example), []).append(example)
  return [
    grouping.pad(examples, task.axes_of(examples[0]), rows, lambda _: length)
    for examples in kinds.values()
  ]


def initial(task):
  """Initial values without compiling for them."""
  shapes = jax.eval_shape(task.init_params, jax.random.key(0))
  rng = np.random.default_rng(0)

  def draw(path, shape):
    if path.endswith(("bias", "scale")):
      return np.full(shape.shape, path.endswith("scale"), np.float32)
    return rng.normal(0, 0.2, shape.shape).astype(np.float32)

  return trees.map_with_path(draw, shapes)


class Learned(NamedTuple):
  """What came of some updates on padded batches."""

  task: Any
  data: Any
  params: Any
  # Losses and metrics now and then: of the padded batches, and of those with
  # as little padding as can be.
  padded: list
  tight: list


@functools.cache
def learn(folder, name, steps=60):
  """Overfits a batch; a gradient takes seconds to compile, so but once."""
  task, data = make(folder, name)

  def found(params, batch):
    outputs = task.module.apply({"params": params}, batch)
    losses = task.loss(outputs, batch)
    means = losses | task.metrics(outputs, batch)
    values = {name: mean.value() for name, mean in means.items()}
    return sum(values[name] for name in losses), values

  gradient = jax.jit(jax.value_and_grad(found, has_aux=True))
  forward = jax.jit(found)
  params = initial(task)
  moments = [jax.tree.map(np.zeros_like, params)] * 2
  padded, tight = [], []
  for step in range(1, steps + 1):
    for few, more in zip(
      gold_batches(task, name, 4, 12), gold_batches(task, name, 8, 16)
    ):
      values, slopes = jax.device_get(gradient(params, more))
      if step in (1, 2, 10, steps):
        padded.append(values)
        tight.append(jax.device_get(forward(params, few)))
      params, moments = adam(params, moments, slopes, step)
  return Learned(task, data, params, padded, tight)


def adam(params, moments, slopes, step):
  """An update, with nothing compiled for it."""
  first, second = (
    jax.tree.map(lambda m, x, b=b, n=n: b * m + (1 - b) * x**n, moment, slopes)
    for n, b, moment in zip((1, 2), (0.9, 0.99), moments)
  )
  rate = 0.02 * np.sqrt(1 - 0.99**step) / (1 - 0.9**step)
  params = jax.tree.map(
    lambda p, m, v: p - np.float32(rate) * m / (np.sqrt(v) + 1e-6),
    params,
    first,
    second,
  )
  return params, [first, second]


@pytest.mark.parametrize("name", TASKS)
def test_padding_changes_nothing(folder, name):
  # Along updates by the gradients of the padded batch, so that these are the
  # gradients of the other one too.
  learned = learn(folder, name)
  for (loss, values), (tight, expected) in zip(learned.padded, learned.tight):
    assert loss == pytest.approx(tight, rel=1e-4, abs=1e-6)
    assert values.keys() == expected.keys()
    for measure, value in expected.items():
      assert values[measure] == pytest.approx(value, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", TASKS)
def test_one_batch_can_be_overfitted(folder, name):
  batches = 2 if name == "multi_task" else 1
  losses = [float(loss) for loss, _ in learn(folder, name).padded]
  assert sum(losses[-batches:]) < 0.1 * sum(losses[:batches])


@pytest.mark.parametrize("name", TASKS)
def test_what_is_saved_evaluates_as_was_measured(folder, name, tmp_path):
  task, data, params, *_ = learn(folder, name)
  mesh = meshes.make_mesh(meshes.MeshConfig())
  values, tuned = evaluation.make(task, data, mesh, 4, None)(params)
  assert any(key.endswith("_baseline") for key in values)
  workdir.save(tuned, params, tmp_path / "run")
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    model = bert_jax.load(tmp_path / "run")
  records = data.evaluation().records
  assert len(records) == 7 * max(len(task.parts), 1)
  if task.writes:
    # What it writes is not what is measured while training.
    again = evaluation.make(model.task, data, mesh, 4, None)(model.params)
    assert again.values == pytest.approx(values, abs=1e-5)
    return
  options = model.task.evaluation_options
  _, predictions = model.predict(list(records), **options)
  metrics = model.task.evaluate(records, predictions)
  assert metrics
  for metric, value in metrics.items():
    assert values[metric] == pytest.approx(value, abs=1e-5), metric
  for part, own in (task.parts or {"": task}).items():
    view = own.view(
      *zip(
        *(
          (record, prediction)
          for record, prediction in zip(records, predictions)
          if record.get("task", "") == part
        )
      )
    )
    assert view.tables or view.confusion or own.name in SHOWN_BY_MISTAKES


# Tasks that have no classes or values to be tabled by.
SHOWN_BY_MISTAKES = ("embedding", "multiple_choice", "question_answering")


@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize("split", ["train", "eval"])
def test_a_record_without_text_is_named_by_its_place(tmp_path, name, split):
  rows = learnable.records(name, 4)
  field = learnable.TEXTS.get(name, "text")
  rows[2] |= {field: [] if field == "words" else " "}
  rows[2] |= {"tags": []} if field == "words" else {}
  config = learnable.recipe(tmp_path, name)
  path = learnable.write(tmp_path / "other.jsonl", rows)
  config["data"][split] = path
  with user_error(rf"^{path}:3: .*'{field}' is empty"):
    Recipe.from_dict(config).make_task()


@pytest.mark.parametrize("name", LABELLED)
def test_what_cannot_be_a_label_is_named_by_its_place(tmp_path, name):
  field, value, said = learnable.WRONG[name]
  rows = learnable.records(name, 4)
  rows[1] |= {field: value}
  if field == "tags":
    rows[1] |= {"words": ["it"] * len(value)}
  config = learnable.recipe(tmp_path, name)
  path = learnable.write(tmp_path / "other.jsonl", rows)
  config["data"]["eval"] = path
  with user_error() as error:
    Recipe.from_dict(config).make_task()
  assert str(error.value).startswith(f"{path}:2: ")
  assert said in str(error.value)
  config["data"]["bad_rows"] = "skip"
  _, data = Recipe.from_dict(config).make_task()
  assert len(data.evaluation().records) == 3
  assert any(f"{path}:2: " in note for note in data.notes)


@pytest.mark.parametrize("name", LABELLED)
def test_a_row_without_a_label_is_a_bad_row(tmp_path, name):
  rows = learnable.records(name, 4)
  rows[1] |= {learnable.WRONG[name][0]: None}
  config = learnable.recipe(tmp_path, name)
  whole = dict(config["data"])
  path = learnable.write(tmp_path / "other.jsonl", rows)
  for split in ("train", "eval"):
    config["data"] = {**whole, split: path}
    with user_error(f"^{path}:2: "):
      Recipe.from_dict(config).make_task()
  config["data"] |= {"train": path, "bad_rows": "skip"}
  _, data = Recipe.from_dict(config).make_task()
  assert len(data.evaluation().records) == 3
  assert (
    sum(
      f"1 rows of config.data.{x} skipped" in note
      for note in data.notes
      for x in ("train", "eval")
    )
    == 2
  )


@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize("split", ["train", "eval"])
def test_an_empty_file_is_named(tmp_path, name, split):
  config = learnable.recipe(tmp_path, name)
  config["data"][split] = learnable.write(tmp_path / "none.jsonl", [])
  with user_error(rf"config\.data\.{split}: .*none\.json"):
    Recipe.from_dict(config).make_task()


@pytest.mark.parametrize("name", LABELLED)
def test_training_batches_have_no_more_shapes_than_lengths(tmp_path, name):
  config = learnable.recipe(tmp_path, name)
  rows = learnable.records(name, 30)
  for number, row in enumerate(rows):
    # All that may differ from record to record.
    if name == "multiple_choice":
      row["choices"] += ["names"] * (number % 2)
    if name == "embedding" and number % 2:
      row["negative"] = "the names"
    if name in ("tagging", "dialogue"):
      row["words"] = row["words"] + ["the", "list"] * (number % 9)
      row["tags"] = row["tags"] + ["O", "B-list"] * (number % 9)
    else:
      field = learnable.TEXTS.get(name, "text")
      row[field] += " of the names" * (number % 9)
  path = learnable.write(tmp_path / "other.jsonl", rows)
  lengths = [12, 16, 24]
  config["data"] |= {"train": path, "max_length": 28, "length_buckets": lengths}
  task, data = Recipe.from_dict(config).make_task()
  stream = data.training(4, 0, None)
  batches = [
    stream.batch(i, range(4)) for i in range(2 * stream.batches_per_epoch)
  ]
  shapes = {str(jax.tree.map(np.shape, batch)) for batch in batches}
  assert {batch.token_ids.shape[-1] for batch in batches} <= {*lengths, 28}
  assert 1 < len(shapes) <= len(lengths) + 1
  dummy = jax.tree.structure(task.dummy_batch)
  assert {jax.tree.structure(batch) for batch in batches} == {dummy}

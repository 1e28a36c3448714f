"""The loss of a student, against the formulas in float64."""

import dataclasses

import jax
import numpy as np
import pytest

from bert_jax.data import grouping
from bert_jax.models.exits import Exits
from bert_jax.tasks import DATA, LABELLED, TASKS
from bert_jax.tasks.targets import losses, similarity_losses
from bert_jax.tasks.targets.labels import LabelledTarget
from bert_jax.training.distillation import features, objective
from bert_jax.training.distillation.config import TeacherConfig
from tests import pytrees, small
from tests.tasks import cases, learnable

SOFT = TeacherConfig(("teacher",), gold=0.0, soft=1.0)


def draw(shape, seed):
  return np.random.default_rng(seed).normal(0, 2, shape)


def softmax(x):
  x = np.exp(np.asarray(x, np.float64))
  return x / x.sum(-1, keepdims=True)


def kl(teacher, student):
  return (teacher * np.log(teacher / student)).sum(-1)


def value(mean):
  return float(mean.total / mean.weight)


def test_soft_labels_are_hintons_formula():
  student, teacher = draw((5, 4), 0), draw((5, 4), 1)
  divergence = jax.jit(losses.divergence)
  found = divergence(student, teacher, 3.0)
  expected = 9 * kl(softmax(teacher / 3), softmax(student / 3))
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  # Padding of a vocabulary, on either side, is no class.
  padded = np.pad(teacher, [(0, 0), (0, 4)], constant_values=-1e30)
  np.testing.assert_allclose(
    divergence(student, padded, 3.0), expected, rtol=1e-5
  )
  found = jax.jit(losses.binary_divergence)(student, teacher, 2.0)
  yes = [np.stack([x, 0 * x], -1) / 2 for x in (teacher, student)]
  expected = 4 * kl(*map(softmax, yes))
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_hidden_states_are_compared_where_there_are_tokens():
  student, teacher = draw((2, 3, 5, 4), 0), draw((2, 3, 5, 4), 1)
  ids = np.array([[1, 1, 1, 0, 0], [1, 1, 2, 2, 2]])
  found = jax.jit(objective.hidden_loss)(student, teacher, ids)
  squares = [
    (student[row, state, token] - teacher[row, state, token]) ** 2
    for row, token in zip(*np.nonzero(ids))
    for state in range(3)
  ]
  np.testing.assert_allclose(value(found), np.mean(squares), rtol=1e-5)


def test_relations_are_minilms_formula_across_widths():
  """Wang et al. 2021, equations 3 to 6, one sequence and head at a time."""
  heads, widths = 2, (4, 6)
  student, teacher = (draw((2, 3, 5, w), n) for n, w in enumerate(widths))
  ids = np.array([[1, 1, 1, 0, 0], [1, 1, 2, 2, 2]])
  total = 0.0
  for row in range(2):
    for sequence in {*ids[row]} - {0}:
      tokens = np.flatnonzero(ids[row] == sequence)
      for kind in range(3):
        for head in range(heads):
          relations = []
          for array, width in zip((teacher, student), widths[::-1]):
            depth = width // heads
            part = array[row, kind, tokens][:, head * depth :][:, :depth]
            relations.append(softmax(part @ part.T / np.sqrt(depth)))
          total += kl(*relations).sum() / heads
  found = jax.jit(objective.relations_loss, static_argnums=3)(
    student, teacher, ids, heads
  )
  np.testing.assert_allclose(value(found), total / 8, rtol=1e-5)


def test_vectors_are_compared():
  student, teacher = draw((4, 3), 0), draw((4, 3), 1)
  wide, weights = draw((4, 5), 2), np.array([1, 1, 0, 1], np.float32)

  def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)

  compare = similarity_losses.TEACHER_LOSSES
  np.testing.assert_allclose(
    compare["cosine"](student, teacher, weights),
    1 - (unit(student) * unit(teacher)).sum(-1),
    rtol=1e-5,
  )
  np.testing.assert_allclose(
    compare["mse"](student, teacher, weights),
    ((student - teacher) ** 2).mean(-1),
    rtol=1e-5,
  )
  squares = (unit(student) @ unit(student).T - unit(wide) @ unit(wide).T) ** 2
  np.testing.assert_allclose(
    compare["similarities"](student, wide, weights),
    squares[:, weights > 0].mean(-1),
    rtol=1e-4,
    atol=1e-6,
  )


def batch_of(task):
  """A batch of records, or of a corpus, of the task."""
  name = task.name
  if name in LABELLED:
    records = learnable.records(name, 3)
    examples = [task.preprocess(x, True, labelled=True)[0] for x in records]
    return grouping.pad(examples, task.axes, 4, lambda _: 16)
  batch = jax.tree.map(lambda x: np.stack([x] * 2), task.dummy_batch)
  ones = {
    name: np.ones_like(x)
    for name, x in batch.targets.items()
    if name.endswith("weights")
  }
  return dataclasses.replace(
    batch,
    sequence_ids=np.ones_like(batch.sequence_ids),
    targets={**batch.targets, **ones},
  )


def fitted(name):
  """A task with the labels of its learnable records."""
  task = TASKS[name].bind(cases.ENCODER, small.tokenizer())
  tags = ("O", *(f"B-{kind}" for kind in learnable.KINDS))
  labels = {"tags": tags, "slots": tags, "values": ()}
  return task.with_targets(
    {
      key: dataclasses.replace(target, labels=labels.get(key, learnable.KINDS))
      if isinstance(target, LabelledTarget)
      else target
      for key, target in task.targets.items()
    }
  )


@pytest.mark.parametrize("name", [x for x in DATA if x != "multi_task"])
def test_a_student_that_says_what_its_teacher_says_has_no_loss(name):
  task = fitted(name)
  batch = batch_of(task)
  shapes = jax.eval_shape(task.init_params, jax.random.key(0))
  shapes = jax.eval_shape(task.module.apply, {"params": shapes}, batch)
  one, other = (pytrees.draw(shapes, 2.0, seed) for seed in (0, 1))
  zeros = jax.tree.map(np.zeros_like, one)

  @jax.jit
  def losses_of(batch, one, *others):
    taught = objective.taught(task, one, batch, True)
    batch = dataclasses.replace(batch, targets={**batch.targets, **taught})
    loss = objective.make_loss(task, SOFT, 0)
    return taught, [loss(x, batch) for x in (one, *others)]

  taught, (same, different, blank) = losses_of(batch, one, other, zeros)
  assert {x.dtype for x in taught.values()} == {np.dtype("float32")}
  several = len(task.targets) > 1
  names = {f"{x}_soft_loss" if several else "soft_loss" for x in task.targets}
  assert same.keys() == names
  for name in names:
    assert same[name].weight > 0
    assert abs(value(same[name])) < 1e-5
    assert value(different[name]) > 1e-2
    # Weights are of the batch alone.
    assert blank[name].weight == same[name].weight


def test_the_task_and_its_teacher_are_weighed():
  task = fitted("classification")
  batch = batch_of(task)
  outputs = {"classifier": draw((4, 3), 0).astype(np.float32)}
  own, other = (
    {
      "hidden_states": draw((4, 2, 16, 8), seed),
      "relations": draw((4, 3, 16, 8), seed),
    }
    for seed in (1, 2)
  )
  config = TeacherConfig(("x",), gold=0.25, soft=1, hidden=2, relations=4)

  @jax.jit
  def compared(outputs, own, other, batch):
    taught = objective.taught(
      task, {**outputs, features.NAME: other}, batch, True
    )
    learned = dataclasses.replace(batch, targets={**batch.targets, **taught})
    loss = objective.make_loss(task, config, 2)
    return loss({**outputs, features.NAME: own}, learned), {
      "gold_loss": task.loss(outputs, batch)["loss"],
      "hidden_loss": objective.hidden_loss(
        own["hidden_states"], other["hidden_states"], batch.sequence_ids
      ),
      "relations_loss": objective.relations_loss(
        own["relations"], other["relations"], batch.sequence_ids, 2
      ),
    }

  found, plain = compared(outputs, own, other, batch)
  assert value(found.pop("soft_loss")) == pytest.approx(0, abs=1e-6)
  assert found.keys() == plain.keys()
  for name, weight in (("gold", 0.25), ("hidden", 2), ("relations", 4)):
    expected = weight * value(plain[f"{name}_loss"])
    assert value(found[f"{name}_loss"]) == pytest.approx(expected, rel=1e-5)


def test_early_exits_learn_from_the_teachers_last_one():
  task = fitted("classification")
  task = task.bind(
    dataclasses.replace(task.config, num_layers=3), task.tokenizer
  ).with_exits(Exits(every=1))
  batch = batch_of(task)
  heads = ("exit_0_classifier", "exit_1_classifier", "classifier")
  outputs = {name: draw((4, 3), n) for n, name in enumerate(heads)}
  taught = objective.taught(task, {"classifier": draw((4, 3), 5)}, batch, True)
  batch = dataclasses.replace(batch, targets={**batch.targets, **taught})
  (found,) = objective.make_loss(task, SOFT, 0)(outputs, batch).values()
  teacher = softmax(draw((4, 3), 5)[:3] / 2)
  values = [
    4 * kl(teacher, softmax(outputs[name][:3] / 2)).mean() for name in heads
  ]
  assert value(found) == pytest.approx(np.average(values, weights=[1, 2, 3]))

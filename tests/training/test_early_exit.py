"""Models with early exits: how they are trained, and how rows leave."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

import bert_jax
from bert_jax.compression import structure
from bert_jax.data import grouping
from bert_jax.model import Model
from bert_jax.models import exits
from bert_jax.models.exits import Exits
from bert_jax.serving import opening
from bert_jax.serving.settings import ServeSettings
from bert_jax.tasks import exits as early
from bert_jax.training.early_exit import EarlyExitForward
from bert_jax.training.inference import Forward
from tests import pytrees, small
from tests.errors import user_error
from tests.tasks import cases, learnable
from tests.tasks.learnable import train

WORDS = np.array(small.WORDS.split())
TEXTS = [
  " ".join(np.random.default_rng(seed).choice(WORDS, 3 + 2 * seed))
  for seed in range(7)
]
ENCODER = dataclasses.replace(small.ENCODER, num_layers=4)
# As ModernBERT: alternately local, norms before blocks; and as ALBERT.
MODERN = dataclasses.replace(
  ENCODER,
  pre_norm=True,
  num_segments=0,
  rotary_base=1e4,
  local_rotary_base=1e4,
  local_window=4,
  global_every=2,
)
SHARED = dataclasses.replace(ENCODER, shared_layers=True)


@functools.cache
def model(name="classification", config=ENCODER, **settings):
  task = cases.task(name, config=config)
  task = task.with_exits(Exits(**{"every": 1, **settings}))
  made = Model(task, jax.device_put(pytrees.of_task(task)), batch_size=8)
  if name != "classification":
    return made
  # So that texts differ in their answers, and exits too.
  params = dict(made.params)
  heads = [*task.exit_names, "classifier"]
  rng = np.random.default_rng(0)
  for head in heads:
    kernel = 5 * rng.normal(size=params[head]["kernel"].shape)
    params[head] = {**params[head], "kernel": np.float32(kernel)}
  made = dataclasses.replace(made, params=params)
  for head, x in zip(heads, all_exits(made, batch_of(made)).values()):
    middle = np.median(x["classifier"], axis=0)
    params[head]["bias"] = params[head]["bias"] - middle
  return made


def batch_of(model, texts=TEXTS):
  examples = [
    x for text in texts for x in model.task.preprocess({"text": text})
  ]
  # Of any number of rows.
  return grouping.pad(examples, model.task.axes, rows=len(examples))


def all_exits(model, batch):
  """The outputs of every exit, by its number of layers."""
  apply = jax.jit(functools.partial(model.module.apply, exits=True))
  outputs = apply({"params": model.params}, batch)
  return early.split(model.task, jax.device_get(outputs))


@pytest.mark.parametrize(
  ("config", "patience"), [(ENCODER, 1), (MODERN, 2), (SHARED, 1)]
)
def test_rows_leave_by_patience(config, patience):
  made = model(config=config, patience=patience)
  batch = batch_of(made)
  found = made.forward(batch)["classifier"]
  each = [x["classifier"] for x in all_exits(made, batch).values()]
  left = []
  for row in range(len(TEXTS)):
    same, before = 0, None
    for logits in each:
      answer = logits[row].argmax()
      same = same + 1 if answer == before else 0
      before = answer
      if same == patience:
        break
    np.testing.assert_allclose(found[row], logits[row], atol=1e-5)
    left.append([x is logits for x in each].index(True))
  assert made.forward.left.tolist() == np.bincount(left, minlength=4).tolist()
  assert len({*left}) > 1
  # A row by itself has a program of its own.
  single = made.forward(batch_of(made, TEXTS[:1]))["classifier"]
  np.testing.assert_allclose(single[0], found[0], atol=1e-5)
  left.append(left[0])
  assert made.forward.left.tolist() == np.bincount(left, minlength=4).tolist()


def test_rows_leave_where_the_entropy_is_low():
  made = model(entropy=0.6)
  logits = np.float32([[0, 0], [0.5, 0], [2, 0], [0, 9]])
  p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  leaves, _ = early.leaves(
    made.task,
    {"classifier": logits},
    {},
    batch_of(made, TEXTS[:4]),
    np.zeros(4, int),
  )
  np.testing.assert_array_equal(leaves, -(p * np.log(p)).sum(-1) < 0.6)
  assert leaves.tolist() == [False, False, True, True]


def test_rows_that_never_leave_get_the_answers_of_the_full_model():
  patient, full = model("dialogue", patience=9), model("dialogue")
  assert type(full.forward) is Forward
  assert type(patient.forward) is EarlyExitForward
  batch = batch_of(full, TEXTS[:2])
  one, other = (jax.device_get(x.forward(batch)) for x in (patient, full))
  assert one.keys() == other.keys() == {"intent", "slots"}
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one, other
  )
  assert patient.forward.left.tolist() == [0, 0, 0, 2]


def test_the_loss_is_that_of_all_exits_weighted_by_their_layers():
  made = model()
  batch = made.task.preprocess({"text": TEXTS[0], "label": "LABEL_1"})
  batch = grouping.pad(batch, made.task.axes)
  each = all_exits(made, batch)
  assert [*each] == [1, 2, 3, 4]
  logits = np.float64([x["classifier"][0] for x in each.values()])
  losses = np.log(np.exp(logits).sum(-1)) - logits[:, 1]
  found = made.task.loss(each[4], batch)["loss"]
  expected = np.average(losses, weights=[1, 2, 3, 4])
  np.testing.assert_allclose(found.total / found.weight, expected, rtol=1e-5)
  # Of the last exit alone, as the module gives it without dropout.
  last = made.task.loss({"classifier": each[4]["classifier"]}, batch)["loss"]
  np.testing.assert_allclose(last.total, losses[-1], rtol=1e-5)


def test_a_run_trains_exits_and_is_loaded_with_them(home, tmp_path):
  config = learnable.recipe(
    home,
    model={**learnable.MODEL, "num_layers": 2},
    exits={"every": 1, "patience": 1},
  )
  values, _ = train(config, tmp_path / "run")
  loaded = bert_jax.load(tmp_path / "run")
  assert loaded.task.exits == Exits(every=1, patience=1)
  assert type(loaded.forward) is EarlyExitForward
  assert "accuracy" in values
  full = bert_jax.load(tmp_path / "run", exits={})
  assert type(full.forward) is Forward
  eager = bert_jax.load(tmp_path / "run", exits={"entropy": 0.6})
  eager(["the array", "a list"])
  assert eager.forward.left.sum() == 2
  # The server opens it with the engine that has early exits.
  opener = opening.Opener(ServeSettings({"m": "x"}), None, tmp_path)
  served, engine = opener.open(str(tmp_path / "run"))
  assert engine == "jax"
  assert type(served.forward) is EarlyExitForward
  # Other formats have the last exit alone, which is the full model.
  with pytest.warns(UserWarning, match="early exits"):
    bert_jax.save(loaded, tmp_path / "converted")
  assert bert_jax.load(tmp_path / "converted")("the list") == full("the list")
  fewer = structure.keep_layers(loaded, [1])
  assert not fewer.task.exits.every
  assert not any(name.startswith("exit") for name in fewer.params)


@pytest.mark.parametrize(
  ("name", "settings", "message"),
  [
    ("classification", {"every": 4}, "every: expected less than the 4 layers"),
    ("question_answering", {"every": 1}, "has no early exits; classes"),
    ("regression", {"every": 1, "entropy": 0.1}, "use the patience"),
  ],
)
def test_exits_that_a_task_cannot_have(name, settings, message):
  with user_error(message):
    cases.task(name, config=ENCODER).with_exits(Exits(**settings))


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"every": 1, "patience": 1, "entropy": 0.1}, "either patience or entropy"),
    ({"patience": 1}, "there are no early exits"),
    ({"every": 1, "entropy": float("nan")}, "entropy: expected at least 0"),
    ({"every": -1}, "every: expected at least 0"),
  ],
)
def test_wrong_settings(settings, message):
  with pytest.raises(ValueError, match=message):
    Exits(**settings)


def test_a_model_without_exits_refuses_their_settings(home):
  with user_error("has no early exits"):
    bert_jax.load(home / "run", exits={"patience": 1})


@pytest.mark.parametrize(
  ("text", "found"),
  [
    ("patience=2", {"patience": 2}),
    ("entropy=0.5", {"entropy": 0.5}),
    ("never", {}),
  ],
)
def test_settings_from_a_flag(text, found):
  assert exits.parse(text) == found


@pytest.mark.parametrize("text", ["patience=x", "every=1", "2", ""])
def test_wrong_settings_from_a_flag(text):
  with user_error("exits: expected patience=NUMBER"):
    exits.parse(text)

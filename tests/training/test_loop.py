import dataclasses
import json
import os
import random
import shutil
import signal
import threading
import time

import numpy as np
import pytest

import bert_jax
from bert_jax import trees
from bert_jax.checkpointing.checkpoints import Checkpoints
from bert_jax.cluster import interruption, run_folder
from bert_jax.data.corpus import build
from bert_jax.training import evaluation, run, workdir
from bert_jax.training.logging import read_metrics
from bert_jax.training.mesh import partitioning
from bert_jax.training.optim import ema
from bert_jax.training.recipe import Recipe
from tests import pytrees, small
from tests.data import test_pretraining_records
from tests.errors import user_error
from tests.tasks import learnable

STEPS = 6


def write_text(path, seed=0, documents=40):
  """Documents about one of a few subjects each, so that pairs can be told."""
  rng = random.Random(seed)
  subjects = [
    [f"{letter}{n}" for n in range(8)] for letter in ("cat", "sea", "sun")
  ]
  lines = []
  for _ in range(documents):
    words = rng.choice(subjects)
    for _ in range(rng.randint(3, 8)):
      lines.append(" ".join(rng.choices(words, k=rng.randint(3, 9))))
    lines.append("")
  path.write_text("\n".join(lines))


def prepare(folder, **changes):
  """Makes a corpus from the folder's text."""
  keys = {
    "source": "text_files",
    "files": (str(folder / "text.txt"),),
    "sentences": "line",
    "vocab_size": 100,
    "eval_fraction": 0.1,
    "shards": 2,
  }
  config = build.CorpusConfig(**keys | changes)
  build.prepare(config, folder / "prepared", processes=1)
  return folder / "prepared"


def make_corpus(folder):
  write_text(folder / "text.txt")
  return prepare(folder)


def make_recipe(corpus_folder, **changes):
  config = {
    "steps": STEPS,
    "batch_size": 8,
    "model": dict(learnable.MODEL),
    "data": {
      "corpus": str(corpus_folder),
      "max_length": 32,
      "max_predictions": 4,
      "max_sequences": 2,
    },
    "optimizer": {"name": "lamb", "learning_rate": 1e-2},
    "evaluation": {"every": 3, "examples": 20},
    "checkpoint": {"every": 2, "keep": 2},
    "ema": {"decay": 0.5},
    "logging": {"every": 1},
  }
  return Recipe.from_dict(learnable.changed(config, changes))


def test_a_run_leaves_figures_that_agree_with_what_it_returns(finished):
  folder, values = finished
  rows = read_metrics(folder)
  train = [row for row in rows if row["split"] == "train"]
  held_out = [row for row in rows if row["split"] == "eval"]
  assert [row["step"] for row in train] == list(range(1, STEPS + 1))
  assert [row["step"] for row in held_out] == [3, 6]
  for name, value in values.items():
    assert held_out[-1][name] == pytest.approx(value, rel=1e-5)
  assert {
    "mlm_loss",
    "mlm_accuracy",
    "nsp_accuracy",
    "learning_rate",
    "gradient_norm",
    "non_padding_tokens_per_second",
  } <= set(train[0])
  assert {
    "mlm_accuracy_unigram_baseline",
    "nsp_accuracy_majority_baseline",
  } <= set(held_out[0])
  assert list((folder / "tensorboard").iterdir())


def test_a_run_asked_to_stop_goes_on_to_the_same_parameters(
  finished, corpus_folder, tmp_path
):
  recipe = make_recipe(corpus_folder)

  def ask_after_the_first_step():
    while not read_metrics(tmp_path):
      time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)

  threading.Thread(target=ask_after_the_first_step, daemon=True).start()
  # Long enough that the request comes before the end.
  with pytest.raises(interruption.Interrupted, match="stopped at step"):
    run.train_recipe(make_recipe(corpus_folder, steps=STEPS), tmp_path)
  stopped = read_metrics(tmp_path)[-1]["step"]
  assert 0 < stopped < STEPS
  run.train_recipe(recipe, tmp_path)
  pytrees.assert_equal(pytrees.load(tmp_path), pytrees.load(finished[0]))
  steps = [r["step"] for r in read_metrics(tmp_path) if r["split"] == "train"]
  assert steps == list(range(1, STEPS + 1))


def test_accumulation_workers_and_a_profile(corpus_folder, tmp_path):
  recipe = make_recipe(corpus_folder, steps=2, accumulation=2, workers=1)
  with user_error("--profile=2:3: expected FIRST:LAST with"):
    run.train_recipe(recipe, tmp_path, profile=(2, 3))
  values = run.train_recipe(recipe, tmp_path, profile=(2, 2))
  assert np.isfinite(values["mlm_loss"])
  assert [*(tmp_path / run.PROFILE).glob("plugins/profile/*/*.xplane.pb")]


def test_a_run_ends_when_its_hours_are_over(corpus_folder, tmp_path, capfd):
  recipe = make_recipe(corpus_folder, steps=50, hours=1e-6)
  values = run.train_recipe(recipe, tmp_path)
  *_, last = read_metrics(tmp_path)
  assert (last["step"] < 50, last["split"]) == (True, "eval")
  assert run.train_recipe(recipe, tmp_path) == pytest.approx(values)
  end = f"nothing to do: the run ended at step {last['step']}"
  assert end in capfd.readouterr().err


def test_the_averages_are_evaluated_and_saved_as_the_model(
  finished, corpus_folder
):
  folder, values = finished
  recipe = make_recipe(corpus_folder)
  task, data = recipe.make_task()
  optimizer, _ = run.make_optimizer(recipe, task)
  layout = partitioning.replicated()
  shapes = partitioning.state_shapes(
    lambda: run.initial_state(recipe, task, optimizer), layout
  )
  with Checkpoints(folder / "checkpoints") as checkpoints:
    state, _ = checkpoints.restore(shapes)
  averages = trees.flatten(ema.model_params(state))
  trained = trees.flatten(state.params)
  pytrees.assert_equal(pytrees.load(folder), averages)
  assert any((trained[path] != x).any() for path, x in averages.items())
  evaluate = evaluation.make(task, data, layout.mesh, recipe.batch_size, 20)
  assert evaluate(ema.model_params(state)).values == pytest.approx(values)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"optimizer__learning_rate": 1e-3}, "learning_rate: 0.01 -> 0.001"),
    ({"model__num_layers": 2}, "config.model.num_layers: 1 -> 2"),
    ({"steps": 9}, "config.steps: 6 -> 9"),
  ],
)
def test_another_config_is_refused_with_the_difference(
  finished, corpus_folder, changes, message
):
  with user_error(message):
    run.train_recipe(make_recipe(corpus_folder, **changes), finished[0])


def test_keys_that_change_nothing_learned_may_change(finished, corpus_folder):
  recipe = make_recipe(
    corpus_folder, logging__every=2, checkpoint__keep=1, workers=1
  )
  run.train_recipe(recipe, finished[0])


def test_another_corpus_is_refused(finished, corpus_folder, tmp_path):
  write_text(tmp_path / "text.txt", seed=1)
  other = prepare(tmp_path, vocabulary=str(corpus_folder))
  with user_error("training data are not those"):
    run.train_recipe(make_recipe(other), finished[0])


def test_one_run_at_a_time(corpus_folder, tmp_path):
  with (
    run_folder.held(tmp_path),
    user_error(f"in use by another run.*{os.getpid()}"),
  ):
    run.train_recipe(make_recipe(corpus_folder), tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run(corpus_folder, tmp_path):
  recipe = make_recipe(corpus_folder, optimizer__learning_rate=1e30)
  with user_error("is not finite at step"):
    run.train_recipe(recipe, tmp_path)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"data__corpus": "nowhere"}, "config.data.corpus: "),
    ({"data__max_length": 64}, "config.data.max_length: 64 is longer than"),
    ({"model__vocab_size": 7}, "config.model.vocab_size: 7 is less than the"),
    ({"accumulation": 3}, "config.accumulation: 3 micro-batches do not"),
    ({"optimizer__name": "adm"}, "config.optimizer.name: unknown 'adm'"),
    ({"evaluation__every": -1}, "config.evaluation.every: expected at least"),
    ({"compiler_options__xla_cpu": 1}, "config.compiler_options: No such"),
    (
      {"compiler_options__xla_cpu_enable_fast_math": "x"},
      "config.compiler_options: While setting",
    ),
    (
      {"compiler_options__xla_cpu_enable_fast_math": (1,)},
      "config.compiler_options.xla_cpu_enable_fast_math: expected",
    ),
    ({"task": "pretaining"}, "config.task: unknown 'pretaining'; did you"),
    ({"mesh__data": 7}, "config.mesh: data 7"),
  ],
)
def test_a_wrong_value_names_its_key(corpus_folder, tmp_path, changes, message):
  with user_error(message):
    run.train_recipe(make_recipe(corpus_folder, **changes), tmp_path)


@pytest.mark.parametrize(
  "content",
  [
    "{",
    '{"task": 3}',
    "[" * 100_000,
    '{"task": "a", "model": {}}',
    '{"task": [], "model": {}, "vocabulary": null, "run": null}',
  ],
)
def test_a_damaged_run_is_said_to_be_damaged(tmp_path, content):
  (tmp_path / workdir.MODEL_FILE).write_text(content)
  with user_error(f"{workdir.MODEL_FILE}: damaged"):
    bert_jax.load(tmp_path)


def test_a_run_of_an_older_format_is_refused(finished, corpus_folder, tmp_path):
  entry = json.loads((finished[0] / workdir.MODEL_FILE).read_text())
  entry |= {"task": "pretraining", "head": None}
  (tmp_path / workdir.MODEL_FILE).write_text(json.dumps(entry))
  for use in (
    bert_jax.load,
    lambda where: run.train_recipe(make_recipe(corpus_folder), where),
  ):
    with user_error("by an older version of"):
      use(tmp_path)


def test_another_vocabulary_than_the_trained_one_is_refused(finished, tmp_path):
  shutil.copytree(finished[0], tmp_path / "run")
  small.tokenizer().save(tmp_path / "run" / "tokenizer")
  with user_error("tokenizer: this is not the vocabulary"):
    bert_jax.load(tmp_path / "run")


def test_static_records_train_by_the_same_loop(tmp_path):
  records = map(test_pretraining_records.features, range(10))
  test_pretraining_records.write(tmp_path / "records", records)
  recipe = Recipe.from_dict(
    {
      **dataclasses.asdict(make_recipe(tmp_path, steps=2, batch_size=4)),
      "data": {
        "train": [str(tmp_path / "records")],
        "eval": [str(tmp_path / "records")],
        "max_length": test_pretraining_records.LENGTH,
        "max_predictions": test_pretraining_records.SLOTS,
      },
      "model": {**learnable.MODEL, "vocab_size": 70_001},
    }
  )
  values = run.train_recipe(recipe, tmp_path / "run")
  assert np.isfinite(values["mlm_loss"])
  with user_error(r"config\.data\.tokenizer"):
    bert_jax.load(tmp_path / "run")("[MASK]")

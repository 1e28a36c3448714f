import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bert_jax
from bert_jax import ensembling, trees
from bert_jax.checkpointing.checkpoints import Checkpoints
from bert_jax.model import Model
from bert_jax.tasks import TASKS
from bert_jax.tasks.inputs.texts import Texts
from bert_jax.tasks.targets.class_label import ClassLabel
from bert_jax.tasks.targets.multi_label import MultiLabel
from bert_jax.text.wordpiece import SPECIAL_TOKENS, WordPiece
from bert_jax.training import workdir
from bert_jax.types import TrainState
from tests import pytrees, small
from tests.errors import user_error
from tests.tasks import cases

TEXTS = ["the array sorts names", "it is a list in place", ""]


@functools.cache
def member(seed, name="classification", config=cases.ENCODER):
  return of(cases.task(name, config=config), seed)


def of(task, seed=1):
  return Model(task, pytrees.of_task(task, seed), batch_size=4)


def probabilities(model, texts=TEXTS):
  """By text, those of the labels in the order of the head."""
  return np.array(
    [
      [answer.probability for answer in sorted(found, key=lambda a: a.label)]
      for found in model(texts)
    ]
  )


def test_a_soup_has_the_mean_of_all_parameters():
  members = [member(seed) for seed in range(3)]
  made = bert_jax.soup(members)
  flat = [trees.flatten(m.params) for m in members]
  for path, value in trees.flatten(made.params).items():
    expected = np.mean([f[path] for f in flat], axis=0)
    np.testing.assert_allclose(value, expected, atol=1e-6, err_msg=path)
    assert value.dtype == flat[0][path].dtype
  assert not np.allclose(probabilities(made), probabilities(members[0]))


def test_a_soup_of_one_model_twice_is_that_model_and_can_be_saved(tmp_path):
  made = bert_jax.soup([member(0), member(0)])
  np.testing.assert_allclose(
    probabilities(made), probabilities(member(0)), atol=1e-6
  )
  for format in ("huggingface", "bert_jax"):
    bert_jax.save(made, tmp_path / format, format)
    np.testing.assert_allclose(
      probabilities(bert_jax.load(tmp_path / format)),
      probabilities(made),
      atol=1e-6,
    )


def test_models_come_from_folders_too(tmp_path):
  members = [member(seed) for seed in range(2)]
  for i, one in enumerate(members):
    bert_jax.save(one, tmp_path / str(i), "bert_jax")
  folders = [tmp_path / "0", str(tmp_path / "1")]
  for combine in (bert_jax.soup, bert_jax.ensemble):
    np.testing.assert_allclose(
      probabilities(combine(folders)),
      probabilities(combine(members)),
      atol=1e-6,
    )


@pytest.fixture
def run(tmp_path):
  """A folder with three checkpoints, the last of them damaged."""
  folder = tmp_path / "run"
  workdir.save(member(0).task, member(0).params, folder)
  kept = folder / workdir.CHECKPOINTS
  for step in (1, 2):
    with Checkpoints(kept) as checkpoints:
      state = TrainState(
        jnp.int32(step), member(step).params, (), jax.random.key(0)
      )
      checkpoints.save(state, {})
  files = (path for path in (kept / "2").rglob("*") if path.is_file())
  max(files, key=lambda path: path.stat().st_size).write_bytes(b"x")
  return folder


def test_the_checkpoints_of_a_run_make_a_soup(run):
  expected = bert_jax.soup([member(0), member(1)])
  np.testing.assert_allclose(
    probabilities(bert_jax.soup(run)), probabilities(expected), atol=1e-6
  )


def test_an_ensemble_gives_the_mean_of_the_probabilities():
  members = [member(seed) for seed in range(3)]
  made = bert_jax.ensemble(members)
  expected = np.mean([probabilities(m) for m in members], axis=0)
  np.testing.assert_allclose(probabilities(made), expected, atol=1e-5)


def test_members_of_an_ensemble_may_have_other_encoders():
  large = dataclasses.replace(
    cases.ENCODER, hidden_size=32, num_layers=2, max_positions=64
  )
  members = [member(0, config=large), member(1)]
  made = bert_jax.ensemble(members)
  expected = np.mean([probabilities(m) for m in members], axis=0)
  np.testing.assert_allclose(probabilities(made), expected, atol=1e-5)
  made(["the list " * 100])  # Cut to what the smaller one takes.


def test_each_label_of_many_is_averaged_by_itself():
  thresholds = (0.25, 0.5), (0.75, 0.5)
  members = [
    of(cases.task("multi_label", labels=MultiLabel(thresholds=cuts)), seed)
    for seed, cuts in enumerate(thresholds)
  ]
  made = bert_jax.ensemble(members)
  expected = np.mean([probabilities(m) for m in members], axis=0)
  np.testing.assert_allclose(probabilities(made), expected, atol=1e-5)
  assert made.task.targets["labels"].thresholds == (0.5, 0.5)
  soup = bert_jax.soup(members)
  assert soup.task.targets["labels"].thresholds == (0.5, 0.5)


@pytest.mark.parametrize("name", sorted({*TASKS} - {"embedding", "generation"}))
def test_a_model_twice_answers_as_it_does_alone_whatever_the_task(name):
  one, record = member(0, name), cases.RECORDS[name]
  made = bert_jax.ensemble([one, one])
  cases.assert_same(made([record, *cases.OTHERS[name]])[0], one(record))


@pytest.mark.parametrize("name", ["multiple_choice", "question_answering"])
def test_what_only_pads_takes_no_probability(name):
  made = bert_jax.ensemble([member(0, name), member(1, name)])
  record = cases.RECORDS[name]
  together = made([record, *cases.OTHERS[name]])
  cases.assert_same(together[0], made(record))


def test_vectors_are_not_averaged():
  with user_error("the task embedding cannot be"):
    bert_jax.ensemble([member(0, "embedding"), member(1, "embedding")])
  made = bert_jax.ensemble([member(0), member(1)])
  with user_error("an ensemble"):
    made.embed("the list")
  vectors = bert_jax.soup([member(0), member(1)]).embed(["a", "the list"])
  assert vectors.shape == (2, cases.ENCODER.hidden_size)


def test_an_ensemble_is_not_saved_and_says_why(tmp_path):
  made = bert_jax.ensemble([member(0), member(1)])
  for format in ("huggingface", "bert_jax"):
    with user_error("an ensemble is several models"):
      bert_jax.save(made, tmp_path / "saved", format)
  assert not list(tmp_path.iterdir())


def other_vocabulary(model):
  words = list(reversed(small.WORDS.split()))
  tokenizer = WordPiece([*SPECIAL_TOKENS, *words, "sort", "##s", "##ed"])
  task = model.task.bind(model.config, tokenizer)
  return dataclasses.replace(model, task=task)


BOTH = ("soup", "ensemble")
MISFITS = [
  (BOTH, lambda: member(1, "tagging"), "model 2: its task is tagging"),
  (
    BOTH,
    lambda: of(cases.task("classification", label=ClassLabel(("a", "b")))),
    r"model 2: label has names \[\('a', 'b'\)\], but the others .*'LABEL_0'",
  ),
  (
    BOTH,
    lambda: of(cases.task("classification", Texts(8))),
    r"model 2: inputs\.max_length: 8, but the others have",
  ),
  (BOTH, lambda: other_vocabulary(member(1)), "its vocabulary is not that"),
  (
    ("soup",),
    lambda: member(1, config=dataclasses.replace(cases.ENCODER, hidden_size=8)),
    r"model 2: model\.hidden_size: 8, but the others have 16",
  ),
  (BOTH, lambda: "nowhere", "nowhere: no such file or folder"),
]


@pytest.mark.parametrize(
  ("way", "other", "message"),
  [(way, *rest) for ways, *rest in MISFITS for way in ways],
)
def test_models_that_do_not_go_together_are_refused(way, other, message):
  with user_error(message):
    ensembling.COMBINATIONS[way]([member(0), other()])


def test_what_differs_only_in_how_it_is_run_goes_together():
  config = dataclasses.replace(cases.ENCODER, hidden_dropout=0.3)
  made = bert_jax.soup([member(0), member(1, config=config)])
  assert made.task.config == cases.ENCODER


@pytest.mark.parametrize("way", BOTH)
def test_one_model_is_nothing_to_combine(way, tmp_path):
  combine = ensembling.COMBINATIONS[way]
  for few in ([], [member(0)]):
    with user_error("expected several models, got"):
      combine(few)
  bert_jax.save(member(0), tmp_path / "one", "bert_jax")
  with user_error("one: the run has kept 1; there is"):
    combine(tmp_path / "one")
  bert_jax.save(member(0), tmp_path / "published")
  for where in ("nowhere", tmp_path / "published"):
    with user_error("expected several models, or the"):
      combine(where)

import dataclasses
import itertools
import json

import numpy as np
import pytest

import bert_jax
from bert_jax.data.grouping import pad
from bert_jax.settings import UserError
from bert_jax.tasks import DATA, TASKS, labelled
from bert_jax.tasks.inputs.pairs import Pairs
from bert_jax.tasks.targets.similarity import Similarity
from bert_jax.training import run
from bert_jax.training.recipe import Recipe
from tests import small
from tests.tasks.cases import ENCODER, LONG, model

PAIRS = [("the array", "a list"), ("names", "it sorts"), ("place", "them")]
LABELS = (0.5, 3.0, 5.5)


def write(path, rows):
  lines = ("\t".join(map(str, row)) for row in rows)
  path.write_text("".join(f"{line}\n" for line in lines))
  return str(path)


def make(tmp_path, rows, pretrained=None, options=None, **changes):
  """The task and its data; `options` are those of its target."""
  path = write(tmp_path / "pairs.tsv", rows)
  section = {"train": (path,), "eval": (path,), "max_length": 16, **changes}
  data = DATA["embedding"](**section, targets={"similarity": options or {}})
  return labelled.make(data, ENCODER, small.tokenizer(), pretrained)


def contrastive(tmp_path, **changes):
  return make(tmp_path, [("text", "pair"), *PAIRS], **changes)


def similar(tmp_path, labels=LABELS, **options):
  rows = [(*pair, label) for pair, label in zip(PAIRS, labels)]
  header = ("text", "pair", "label")
  options["objective"] = "similarity"
  return make(tmp_path, [header, *rows], options=options)


def training_batch(data):
  stream = data.training(4, 0, None)
  return stream.batch(0, range(4))


def tokens(row, ids):
  return [small.tokenizer().token(i) for i, used in zip(row, ids) if used]


def test_pairs_are_rows_of_two_texts(tmp_path):
  task, data = contrastive(tmp_path)
  batch = training_batch(data)
  assert batch.token_ids.shape == (4, 2, 16)
  found = {
    tuple(" ".join(tokens(*text)[1:-1]) for text in zip(*row))
    for row in zip(batch.token_ids, batch.sequence_ids)
  }
  assert found == {("the array", "a list"), ("names", "it sorts")} | {
    ("place", "them"),
    ("", ""),
  }
  assert sorted(batch.targets["similarity/weights"]) == [0, 1, 1, 1]
  assert not batch.segment_ids.any()
  assert task.dummy_batch.token_ids.shape[0] == 2
  assert task.dummy_batch.targets.keys() == batch.targets.keys()


def test_negatives_are_a_third_text_even_where_some_are_missing(tmp_path):
  rows = [("text", "pair", "negative"), (*PAIRS[0], "it"), (*PAIRS[1], "")]
  _, data = make(tmp_path, rows)
  batch = training_batch(data)
  count = sorted(batch.sequence_ids.any(-1).sum(-1).tolist())
  assert count == [0, 0, 2, 3]
  assert all(
    example.token_ids.shape[0] == 3
    for made in data.evaluation().examples
    for example in made
  )


def test_every_text_begins_with_the_prompt_and_is_truncated(tmp_path):
  task, _ = contrastive(tmp_path, prompt="names ", max_length=7)
  (example,) = task.preprocess({"text": "it", "pair": LONG})
  first, second = zip(example.token_ids, example.sequence_ids)
  assert tokens(*first) == ["[CLS]", "names", "it", "[SEP]"]
  assert len(tokens(*second)) == 7
  assert tokens(*second)[1:3] == ["names", "it"]


@pytest.mark.parametrize(
  ("options", "scaled"),
  [({}, (0, 0.5, 1)), ({"label_range": (0.0, 10.0)}, (0.05, 0.3, 0.55))],
)
def test_labels_become_cosines(tmp_path, options, scaled):
  _, data = similar(tmp_path, **options)
  held_out = data.evaluation()
  found = [e.targets["similarity/similarities"] for (e,) in held_out.examples]
  np.testing.assert_allclose(found, scaled, rtol=1e-6)
  assert {value.dtype for value in found} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
  ("labels", "options", "message"),
  [
    ((1, 1, 1), {}, r"label_range: expected .* got \[1.0\]"),
    (
      ("a", "b", "c"),
      {},
      "tsv:2: the field 'label': expected a number, got 'a'",
    ),
    (
      (0, "much", 1),
      {},
      r"pairs.tsv:3: the field 'label': expected a number, got 'much'",
    ),
    (
      (0, "nan", 1),
      {},
      r"pairs.tsv:3: the field 'label': expected a number, got 'nan'",
    ),
    (
      (0, 1, 5),
      {"label_range": (0.0, 1.0)},
      r"pairs.tsv:4: the label 5: expected label_range, 0 to 1",
    ),
  ],
)
def test_labels_that_are_none(tmp_path, labels, options, message):
  with pytest.raises(UserError, match=message):
    similar(tmp_path, labels, **options)


def test_bad_rows_are_named_or_left_out(tmp_path):
  rows = [("text", "pair"), *PAIRS, ("it", " ")]
  with pytest.raises(UserError, match=r"pairs.tsv:5: .* 'pair' is empty"):
    make(tmp_path, rows)
  _, data = make(tmp_path, rows, bad_rows="skip")
  assert len(data.evaluation().records) == 3


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"objective": "other"}, "objective: expected contrastive or similarity"),
    ({"pooling": ("sum",)}, "pooling: expected some of cls, max, mean"),
    ({"scale": 0.0}, "scale: expected more than 0"),
    ({"scale": float("nan")}, "scale: expected more than 0"),
    ({"label_range": (1.0,)}, "label_range: expected the least"),
    ({"label_range": (1.0, 0.0)}, "label_range: expected the least"),
  ],
)
def test_settings_are_checked(fields, message):
  with pytest.raises(ValueError, match=message):
    Similarity(**fields)
  where = rf"config\.data\.targets\.similarity\.{message}"
  with pytest.raises(UserError, match=where):
    DATA["embedding"](targets={"similarity": fields})


def test_pooling_and_prompt_are_those_of_the_pretrained_model(tmp_path):
  own = dataclasses.replace(
    TASKS["embedding"],
    inputs=Pairs(9, prompt="it "),
    targets={"similarity": Similarity(("cls",), normalize=True)},
  )
  task, _ = contrastive(tmp_path, pretrained=own)
  assert task.inputs == Pairs(16, prompt="it ", texts=2)
  assert task.targets == {"similarity": Similarity(("cls",), normalize=True)}
  options = {"pooling": ("max",)}
  task, _ = contrastive(tmp_path, pretrained=own, options=options)
  assert task.inputs == Pairs(16, prompt="it ", texts=2)
  assert task.targets == {"similarity": Similarity(("max",), normalize=True)}


def test_the_default_pooling_is_the_mean():
  hidden = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
  ones = np.ones((2, 4), np.int32)
  found = Similarity().pool(hidden, ones)
  np.testing.assert_array_equal(found, Similarity(("mean",)).pool(hidden, ones))


def test_the_prediction_for_a_pair_is_the_vector_of_each_text():
  ours = model("embedding")
  records = [
    {"text": "the list", "pair": "names"},
    {"text": LONG, "pair": "it", "negative": "them"},
  ]
  for found, record in zip(ours(records), records):
    assert found.dtype == np.float32
    np.testing.assert_allclose(
      found, ours.embed(list(record.values())), atol=1e-5
    )


def recipe(tmp_path, objective, path, **changes):
  small.tokenizer().save(tmp_path / "vocabulary")
  return Recipe.from_dict(
    {
      "task": "embedding",
      "steps": 40,
      "batch_size": 8,
      "model": {
        "hidden_size": 16,
        "num_layers": 1,
        "num_heads": 2,
        "intermediate_size": 32,
        "max_positions": 16,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
      },
      "data": {
        "train": path,
        "eval": path,
        "targets": {"similarity": {"objective": objective}},
        "max_length": 8,
        "tokenizer": str(tmp_path / "vocabulary"),
      },
      "optimizer": {"name": "adamw", "learning_rate": 2e-2},
      "evaluation": {"every": 100, "examples": 0},
      "checkpoint": {"every": 100, "keep": 1},
      "logging": {"every": 20},
    }
    | changes
  )


WORDS = ["the", "array", "is", "in", "place", "a"]
WORDS += ["list", "of", "names", "and", "it", "them"]


def test_a_run_learns_what_belongs_together(tmp_path):
  # Nothing but training tells which words go together.
  rows = zip(WORDS[::2], WORDS[1::2])
  path = write(tmp_path / "pairs.tsv", [("text", "pair"), *rows])
  found = run.train_recipe(
    recipe(tmp_path, "contrastive", path), tmp_path / "run"
  )
  assert found["recall_at_1"] == 1
  assert found["recall_at_1_chance_baseline"] == pytest.approx(1 / 6)
  assert found["contrastive_loss"] < 0.2
  trained = bert_jax.load(tmp_path / "run")
  texts, pairs = trained.embed(WORDS[::2]), trained.embed(WORDS[1::2])
  units = [
    x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (texts, pairs)
  ]
  assert (np.argmax(units[0] @ units[1].T, -1) == np.arange(6)).all()
  bert_jax.save(trained, tmp_path / "saved")
  again = bert_jax.load(tmp_path / "saved")
  assert again.task.name == "embedding"
  (own,) = trained.task.targets.values()
  (target,) = again.task.targets.values()
  assert (target.pooling or ("mean",)) == (own.pooling or ("mean",))
  assert target.normalize == own.normalize
  assert again.task.inputs.prompt == trained.task.inputs.prompt
  assert again.task.inputs.max_length == trained.task.inputs.max_length
  np.testing.assert_allclose(again.embed(WORDS[::2]), texts, atol=1e-5)


def test_a_run_learns_how_much_texts_are_alike(tmp_path):
  # JSON lines, with labels from 1 to 5.
  rows = [
    {"text": a, "pair": b, "label": 1 + (3 * i) % 5}
    for i, (a, b) in enumerate(itertools.pairwise(WORDS))
  ]
  path = tmp_path / "pairs.jsonl"
  path.write_text("\n".join(map(json.dumps, rows)))
  found = run.train_recipe(
    recipe(tmp_path, "similarity", str(path)), tmp_path / "run"
  )
  assert found["spearman"] > 0.9
  assert found["similarity_loss"] < 0.02


def test_what_pads_texts_changes_no_loss(tmp_path):
  task, data = contrastive(tmp_path)
  examples = [e for made in data.evaluation().examples for e in made]
  hidden = np.random.default_rng(0).normal(size=(4, 2, 16, 6))
  values = []
  for length in (8, 16):
    batch = pad(examples, task.axes, 4, lambda _, length=length: length)
    outputs = hidden[:, :, :length].astype(np.float32)
    means = task.loss({"hidden_states": outputs}, batch)
    mean = means["contrastive_loss"]
    values.append(float(mean.value()))
  assert values[0] == pytest.approx(values[1], rel=1e-6)
  assert values[0] > 0.1

"""What tasks that learn from labelled records have in common."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bert_jax.predictor import Predictor

import bert_jax
from bert_jax.data import grouping
from bert_jax.settings import UserError, from_dict
from bert_jax.tasks import TASKS, classification, supervised
from bert_jax.training import evaluation
from bert_jax.training.mesh import meshes
from bert_jax.training.mesh.meshes import MeshConfig
from bert_jax.training.train import make_update
from bert_jax.types import TrainState
from tests import small
from tests.tasks.cases import ENCODER, LONG, random_params

NAMES = ("classification", "multi_label", "regression")
TEXTS = (
  "the array",
  "a list",
  "it sorts names",
  "them",
  "in place",
  "names of",
)


def gold(name, n):
  return {
    "classification": {"label": "abc"[n % 3]},
    "multi_label": {"labels": ["abc"[n % 3]] * (n > 0)},
    "regression": {"label": 100 + n * n},
  }[name]


def write(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


def make(name, tmp_path, rows, **keys):
  given = {
    "train": write(tmp_path / "train.jsonl", rows),
    "eval": write(tmp_path / "eval.jsonl", rows),
  }
  data = from_dict(TASKS[name].Data, {**given, **keys}, "config.data")
  config = dataclasses.replace(ENCODER, hidden_dropout=0, attention_dropout=0)
  return TASKS[name].make(config, small.tokenizer(), data=data)


def fit(task, steps):
  """Parameters after some updates on the one training batch."""
  optimizer = optax.adam(1e-2)
  params = jax.tree.map(jnp.asarray, random_params(task))
  state = TrainState(
    jnp.zeros((), jnp.int32), params, optimizer.init(params), jax.random.key(0)
  )
  update = jax.jit(make_update(task, optimizer))
  batch = task.data.training(8, 0, None).batch(0, range(8))
  for _ in range(steps):
    state, measures = update(state, batch)
  return state.params, measures


@pytest.mark.parametrize("name", NAMES)
def test_one_batch_is_learned_and_the_saved_model_scores_the_same(
  name, tmp_path
):
  rows = [{"text": x, **gold(name, n)} for n, x in enumerate(TEXTS)]
  task = make(name, tmp_path, rows)
  params, measures = fit(task, 150)
  assert measures[f"{name}_loss"].value() < 0.1
  mesh = meshes.make_mesh(MeshConfig())
  found = evaluation.make(task, mesh, 4, None)(params)
  first = {
    "classification": "accuracy",
    "multi_label": "micro_f1",
    "regression": "spearman",
  }[name]
  assert found.values[first] > 0.99
  baselines = [key for key in found.values if key.endswith("_baseline")]
  assert baselines

  kept = dataclasses.replace(task, head=found.head, data=None)
  bert_jax.save(Predictor(kept, params), tmp_path / "run", format="bert_jax")
  predictor = bert_jax.load(tmp_path / "run")
  assert predictor.task.head == found.head
  answers = predictor([{"text": x} for x in TEXTS])
  scores = predictor.task.score(predictor.task.head, answers, rows)
  assert scores.keys() <= found.values.keys()
  for key, value in scores.items():
    assert found.values[key] == pytest.approx(value, rel=1e-4, abs=1e-4)


def labelled(tmp_path, rows, **keys):
  return make("classification", tmp_path, rows, **keys)


ROWS = [{"text": x, "label": "ab"[n % 2]} for n, x in enumerate(TEXTS)]


def test_rows_are_as_long_as_the_lengths_and_the_longest_allow(tmp_path):
  rows = [*ROWS, {"text": LONG, "label": "a"}]
  for keys, expected in (
    ({"length_buckets": (4, 8, 64)}, {4, 8, 32}),  # The encoder takes 32.
    ({"length_buckets": (4, 8, 64), "max_length": 6}, {4, 6}),
    ({"length_buckets": (64,)}, {32}),
  ):
    task = labelled(tmp_path, rows, **keys)
    stream = task.data.training(1, 0, None)
    batches = [stream.batch(n, range(1)) for n in range(7)]
    found = {batch.token_ids.shape[-1] for batch in batches}
    assert found <= expected
    assert max(found) == max(expected)
    assert task.data.evaluation().lengths == tuple(sorted(expected))


def test_what_was_read_is_said(tmp_path):
  task = labelled(
    tmp_path, [*ROWS, {"text": "it", "label": None}], bad_rows="skip"
  )
  sizes = [task.prepare(row)[0].token_ids.size for row in ROWS]
  assert task.data.length == pytest.approx(np.mean(sizes))
  first, *skipped = task.data.notes
  assert first.startswith("6 training and 6 held-out records; ")
  assert len(skipped) == 2
  assert "1 records skipped of config.data.train" in skipped[0]
  assert "train.jsonl:7" in skipped[0]


def test_the_fingerprint_is_that_of_the_training_data(tmp_path):
  first = labelled(tmp_path, ROWS).data.fingerprint()
  assert labelled(tmp_path, ROWS).data.fingerprint() == first
  assert labelled(tmp_path, ROWS[1:] * 2).data.fingerprint() != first


def test_evaluation_goes_over_the_records_in_order(tmp_path):
  held_out = labelled(tmp_path, ROWS).data.evaluation()
  assert list(held_out.records) == ROWS
  for record, (example,) in zip(held_out.records, held_out.examples):
    expected = small.tokenizer().encode(record["text"]).ids
    assert example.token_ids.tolist() == list(expected)


@pytest.mark.parametrize(
  ("keys", "message"),
  [
    ({"train": ""}, r"config\.data\.train"),
    ({"eval": "nowhere.tsv"}, r"config\.data\.eval.*nowhere\.tsv"),
    ({"columns": {"labl": "x"}}, r"config\.data\.columns.*labl"),
    ({"max_length": "long"}, r"config\.data\.max_length: expected int"),
  ],
)
def test_a_mistake_names_its_key(tmp_path, keys, message):
  with pytest.raises(UserError, match=message) as error:
    labelled(tmp_path, ROWS, **keys)
  assert "\n" not in str(error.value)


def test_only_bad_rows_leave_nothing_even_where_they_are_skipped(tmp_path):
  rows = [{"text": " ", "label": "a"}] * 3
  with pytest.raises(UserError, match="no rows are left, 3 are bad; the first"):
    labelled(tmp_path, rows, bad_rows="skip")


def test_labels_that_only_a_split_off_record_has_are_known(tmp_path):
  rows = [{"text": "it", "label": f"name {n}"} for n in range(20)]
  task = labelled(tmp_path, rows, eval=())
  assert len(task.head.labels) == 20
  assert len(task.data.evaluation().records) == 2


def test_one_record_cannot_be_split(tmp_path):
  with pytest.raises(UserError, match="one record, from which none"):
    labelled(tmp_path, [{"text": "it", "label": "a"}], eval=())


@pytest.mark.parametrize(
  ("given", "pretrained", "found", "expected"),
  [
    ((), (), ["b", "a", "b"], ("a", "b")),
    ((), (), ["10", "9"], ("9", "10")),
    ((), (), ["10", "9", "-1"], ("-1", "10", "9")),
    ((), ("b", "c", "a"), ["a", "b"], ("b", "c", "a")),
    ((), ("b", "c"), ["a", "b"], ("a", "b")),
    (("z", "a"), ("b", "a"), ["a"], ("z", "a")),
  ],
)
def test_labels_of_a_head(given, pretrained, found, expected):
  assert supervised.labels(given, pretrained, found) == expected


def test_vocabularies_are_named_or_come_with_the_model(tmp_path):
  assert supervised.load_tokenizer(classification.Data()) is None
  small.tokenizer().save(tmp_path / "vocabulary")
  data = classification.Data(tokenizer=str(tmp_path / "vocabulary"))
  assert len(supervised.load_tokenizer(data)) == len(small.tokenizer())


def test_the_usual_lengths_rise():
  assert list(grouping.LENGTH_BUCKETS) == sorted(grouping.LENGTH_BUCKETS)
  assert classification.Data().length_buckets == grouping.LENGTH_BUCKETS

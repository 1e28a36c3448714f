"""Tasks that learn from labelled records: examples, shapes, evaluation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bert_jax
from bert_jax.data import grouping
from bert_jax.settings import UserError
from bert_jax.tasks import LABELLED, load_tokenizer
from bert_jax.tasks.targets import labels
from bert_jax.training import evaluation
from bert_jax.training.mesh import meshes
from bert_jax.training.mesh.meshes import MeshConfig
from bert_jax.training.train import make_update
from bert_jax.types import TrainState
from tests import small
from tests.tasks import cases
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


def learn(task, data, steps):
  """Parameters after some updates on the one training batch."""
  optimizer = optax.adam(1e-2)
  params = jax.tree.map(jnp.asarray, random_params(task))
  state = TrainState(
    jnp.zeros((), jnp.int32), params, optimizer.init(params), jax.random.key(0)
  )
  update = jax.jit(make_update(task, optimizer))
  batch = data.training(8, 0, None).batch(0, range(8))
  for _ in range(steps):
    state, measures = update(state, batch)
  return state.params, measures


@pytest.mark.parametrize("name", NAMES)
def test_one_batch_is_learned_and_the_saved_model_evaluates_the_same(
  name, tmp_path
):
  rows = [{"text": x, **gold(name, n)} for n, x in enumerate(TEXTS)]
  task, data = cases.fit(tmp_path, name, rows)
  config = dataclasses.replace(ENCODER, hidden_dropout=0, attention_dropout=0)
  task = task.bind(config, task.tokenizer)
  params, measures = learn(task, data, 150)
  assert measures["loss"].value() < 0.1
  mesh = meshes.make_mesh(MeshConfig())
  found = evaluation.make(task, data, mesh, 4, None)(params)
  first = {
    "classification": "accuracy",
    "multi_label": "micro_f1",
    "regression": "spearman",
  }[name]
  assert found.values[first] > 0.99
  assert [key for key in found.values if key.endswith("_baseline")]

  trained = bert_jax.Model(found.task, params)
  bert_jax.save(trained, tmp_path / "run", format="bert_jax")
  model = bert_jax.load(tmp_path / "run")
  assert model.task.targets == found.task.targets
  _, predictions = model.predict([{"text": x} for x in TEXTS])
  metrics = model.task.evaluate(rows, predictions)
  assert metrics.keys() <= found.values.keys()
  for key, value in metrics.items():
    assert found.values[key] == pytest.approx(value, rel=1e-4, abs=1e-4)


def labelled(tmp_path, rows, **keys):
  return cases.fit(tmp_path, "classification", rows, **keys)


ROWS = [{"text": x, "label": "ab"[n % 2]} for n, x in enumerate(TEXTS)]


def test_rows_are_as_long_as_the_lengths_and_the_longest_allow(tmp_path):
  rows = [*ROWS, {"text": LONG, "label": "a"}]
  for keys, expected in (
    ({"length_buckets": (4, 8, 64)}, {4, 8, 32}),  # The encoder takes 32.
    ({"length_buckets": (4, 8, 64), "max_length": 6}, {4, 6}),
    ({"length_buckets": (64,)}, {32}),
  ):
    _, data = labelled(tmp_path, rows, **keys)
    stream = data.training(1, 0, None)
    batches = [stream.batch(n, range(1)) for n in range(7)]
    found = {batch.token_ids.shape[-1] for batch in batches}
    assert found <= expected
    assert max(found) == max(expected)
    assert data.evaluation().length_buckets == tuple(sorted(expected))


def test_what_was_read_is_said(tmp_path):
  task, data = labelled(
    tmp_path, [*ROWS, {"text": "it", "label": None}], bad_rows="skip"
  )
  sizes = [task.preprocess(row)[0].token_ids.size for row in ROWS]
  assert data.max_length == pytest.approx(np.mean(sizes))
  first, *skipped = data.notes
  assert first.startswith("6 training and 6 evaluation records; ")
  assert len(skipped) == 2
  assert "1 records skipped of config.data.train" in skipped[0]
  assert "train.jsonl:7" in skipped[0]


def test_the_fingerprint_is_that_of_the_training_data(tmp_path):
  first = labelled(tmp_path, ROWS)[1].fingerprint()
  assert labelled(tmp_path, ROWS)[1].fingerprint() == first
  assert labelled(tmp_path, ROWS[1:] * 2)[1].fingerprint() != first


def test_evaluation_goes_over_the_records_in_order(tmp_path):
  held_out = labelled(tmp_path, ROWS)[1].evaluation()
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
  task, data = labelled(tmp_path, rows, eval=())
  assert len(task.targets["label"].labels) == 20
  assert len(data.evaluation().records) == 2


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
  assert labels.choose(given, pretrained, found) == expected


def test_vocabularies_are_named_or_come_with_the_model(tmp_path):
  config = LABELLED["classification"]
  assert load_tokenizer(config()) is None
  small.tokenizer().save(tmp_path / "vocabulary")
  data = config(tokenizer=str(tmp_path / "vocabulary"))
  assert len(load_tokenizer(data)) == len(small.tokenizer())


def test_the_default_length_buckets_rise():
  buckets = LABELLED["classification"]().length_buckets
  assert buckets == grouping.LENGTH_BUCKETS == tuple(sorted({*buckets}))

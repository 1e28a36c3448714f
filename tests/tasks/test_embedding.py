import dataclasses
import itertools

import numpy as np
import pytest

from bert_jax.data.grouping import pad
from bert_jax.tasks import TASKS
from bert_jax.tasks.inputs.pairs import Pairs
from bert_jax.tasks.targets.similarity import Similarity
from tests import small
from tests.errors import user_error
from tests.tasks import cases, learnable
from tests.tasks.cases import LONG, model

PAIRS = [("the array", "a list"), ("names", "it sorts"), ("place", "them")]
LABELS = (0.5, 3.0, 5.5)


def make(tmp_path, rows, **keys):
  table = "".join("\t".join(map(str, row)) + "\n" for row in rows)
  keys = {"max_length": 16, **keys}
  return cases.fit(tmp_path, "embedding", table, **keys)


def contrastive(tmp_path, **changes):
  return make(tmp_path, [("text", "pair"), *PAIRS], **changes)


def similar(tmp_path, labels=LABELS, **options):
  rows = [(*pair, label) for pair, label in zip(PAIRS, labels)]
  header = ("text", "pair", "label")
  options["objective"] = "similarity"
  return make(tmp_path, [header, *rows], similarity=options)


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
    ((0, "nan", 1), {}, "train.tsv:3: the field 'label': expected a number"),
    (
      (0, 1, 5),
      {"label_range": (0.0, 1.0)},
      r"train.tsv:4: the label 5: expected label_range, 0 to 1",
    ),
  ],
)
def test_labels_that_are_none(tmp_path, labels, options, message):
  with user_error(message):
    similar(tmp_path, labels, **options)


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
  task, _ = contrastive(tmp_path, pretrained=own, similarity=options)
  assert task.inputs == Pairs(16, prompt="it ", texts=2)
  assert task.targets == {"similarity": Similarity(("max",), normalize=True)}


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


WORDS = ["the", "array", "is", "in", "place", "a"]
WORDS += ["list", "of", "names", "and", "it", "them"]


def test_a_run_learns_how_much_texts_are_alike(tmp_path):
  # Labels from 1 to 5.
  rows = [
    {"text": a, "pair": b, "label": 1 + (3 * i) % 5}
    for i, (a, b) in enumerate(itertools.pairwise(WORDS))
  ]
  config = learnable.recipe(
    tmp_path,
    "embedding",
    steps=40,
    batch_size=8,
    model__hidden_dropout=0.0,
    model__attention_dropout=0.0,
    optimizer__learning_rate=2e-2,
    data__max_length=8,
    data__targets={"similarity": {"objective": "similarity"}},
  )
  path = learnable.write(tmp_path / "pairs.jsonl", rows)
  config["data"] |= {"train": path, "eval": path}
  found, _ = learnable.train(config, tmp_path / "run")
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

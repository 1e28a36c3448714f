"""Tasks that learn from labelled records: examples, shapes, evaluation."""

import numpy as np
import pytest

from bert_jax.tasks import LABELLED, load_tokenizer
from bert_jax.tasks import labelled as labelled_data
from bert_jax.tasks.targets import labels
from tests import small
from tests.errors import user_error
from tests.tasks import cases, learnable
from tests.tasks.cases import LONG

TEXTS = (
  "the array",
  "a list",
  "it sorts names",
  "them",
  "in place",
  "names of",
)


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
  assert "1 rows of config.data.train skipped" in skipped[0]
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


def test_labels_that_only_a_split_off_record_has_are_known(tmp_path):
  rows = [{"text": "it " * n, "label": f"name {n}"} for n in range(1, 21)]
  task, data = labelled(tmp_path, rows, eval=())
  assert len(task.targets["label"].labels) == 20
  assert len(data.evaluation().records) == 2


def test_one_record_cannot_be_split(tmp_path):
  with user_error("one record, from which none"):
    labelled(tmp_path, [{"text": "it", "label": "a"}], eval=())


def questions(contexts, each):
  """Questions on contexts; those on one do not follow each other."""
  return [
    {
      "question": f"a list {n}",
      "context": f"the names {context}",
      "answers": [{"text": "names", "start": 4}],
      "author": n % 3,
    }
    for n in range(each)
    for context in range(contexts)
  ]


@pytest.mark.parametrize(
  ("group", "field"), [(None, "context"), ("author", "author")]
)
def test_records_with_the_same_value_are_held_out_together(
  tmp_path, group, field
):
  rows = questions(contexts=20, each=6)
  keys = {"eval_group": group} if group else {}
  for fraction in (0.01, 0.2, 0.5):
    config = LABELLED["question_answering"](
      train=(learnable.write(tmp_path / "train.jsonl", rows),),
      eval_fraction=fraction,
      **keys,
    )
    train, held_out, is_split = labelled_data.read(config, config.task())
    values = [
      {row.record[field] for row in part.rows} for part in (train, held_out)
    ]
    assert is_split and all(values) and not values[0] & values[1]
    smallest = 40 if group else 6
    wanted = round(fraction * len(rows)) // smallest * smallest
    assert len(held_out.rows) == max(wanted, smallest)
    assert len(train.rows) + len(held_out.rows) == len(rows)


def test_records_can_be_drawn_one_by_one(tmp_path):
  rows = questions(contexts=1, each=20)
  path = (learnable.write(tmp_path / "train.jsonl", rows),)
  cls = LABELLED["question_answering"]
  config = cls(train=path, eval_group="")
  assert len(labelled_data.read(config, config.task()).evaluation.rows) == 2
  config = cls(train=path)
  with user_error("eval_group: all records have the same 'context', so none"):
    labelled_data.read(config, config.task())
  config = cls(train=path, eval_group="autor")
  with user_error("eval_group: no record has the field 'autor'"):
    labelled_data.read(config, config.task())


@pytest.mark.parametrize(
  ("name", "field"),
  [("classification", "text"), ("tagging", "words"), ("embedding", "text")],
)
def test_each_task_has_a_field_that_is_held_out_as_one(name, field):
  assert LABELLED[name]().eval_group == field


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

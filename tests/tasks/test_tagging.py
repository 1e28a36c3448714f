import dataclasses
import itertools

import numpy as np
import pytest

from bert_jax.data.grouping import pad
from bert_jax.tasks.inputs.words import Words
from bert_jax.tasks.metrics import entities as metrics
from bert_jax.tasks.targets.token_labels import TokenLabels
from tests import small
from tests.errors import user_error
from tests.tasks import cases
from tests.tasks.cases import ENCODER, LONG

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC")


def logits_of(batch, labels, ids):
  """Of the first pieces those of these ids; with certainty wrong elsewhere."""
  logits = np.zeros((*batch.token_ids.shape, len(labels)), np.float32)
  logits[..., -1] = 50
  for (row, place), id in zip(
    np.argwhere(batch.targets["inputs/word_weights"]), ids, strict=False
  ):
    logits[row, place] = 0
    logits[row, place, id] = 3
  return logits


def tag(record, labels, max_length=32, **options):
  """Answers of a model that gives first pieces these labels, in turn."""
  config = dataclasses.replace(ENCODER, max_positions=1000)
  task = cases.task(
    "tagging", Words(max_length), config=config, tags=TokenLabels(LABELS)
  )
  examples = task.preprocess(record)
  batch = pad(examples, task.axes)
  ids = (LABELS.index(label) for label in itertools.cycle(labels))
  outputs = {"classifier": logits_of(batch, LABELS, ids)}
  rows = task.predict(outputs, batch, [record] * len(examples))
  return task.decode(record, task.merge(record, rows), **options)


# "sorted" and "sorts" are of two pieces each.
RECORD = {"text": "the array sorted names . it sorts a list"}
GIVEN = ["O", "B-PER", "I-PER", "I-LOC", "I-LOC", "B-LOC", "B-LOC", "MISC", "O"]


def test_each_word_has_the_label_of_its_first_piece():
  answer = tag(RECORD, GIVEN)
  assert [word.label for word in answer] == GIVEN
  assert [word.word for word in answer] == RECORD["text"].split()
  for word in answer:
    assert RECORD["text"][word.start : word.end] == word.word
    expected = np.exp(3) / (np.exp(3) + len(LABELS) - 1)
    assert word.probability == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("is_split", [False, True])
def test_words_of_one_entity_are_joined(is_split):
  record = {"words": RECORD["text"].split()} if is_split else RECORD
  answer = tag(record, GIVEN, entities=True)
  assert [(entity.text, entity.label) for entity in answer] == [
    ("array sorted", "PER"),
    ("names .", "LOC"),
    ("it", "LOC"),
    ("sorts", "LOC"),
    ("a", "MISC"),
  ]
  for entity in answer:
    if is_split:
      part = " ".join(record["words"][entity.start : entity.end])
    else:
      part = record["text"][entity.start : entity.end]
    assert part == entity.text
    assert 0.7 < entity.probability < 0.9


def test_nothing_but_outsiders_is_no_entity():
  assert tag(RECORD, ["O"], entities=True) == []
  assert tag({"text": ""}, ["O"], entities=True) == []
  assert tag({"text": ""}, ["O"]) == []


def test_chunks_are_joined_to_one_answer():
  whole = tag({"text": LONG}, ["B-PER", "O", "I-LOC"], max_length=1000)
  parts = tag({"text": LONG}, ["B-PER", "O", "I-LOC"], max_length=12)
  assert parts == whole
  assert [word.word for word in whole] == LONG.split()
  (entity,) = tag({"text": LONG}, ["I-PER"], max_length=12, entities=True)
  assert (entity.start, entity.end) == (0, len(LONG.rstrip()))


def test_given_words_without_pieces_are_outside():
  given = ["\u200b", "it", "\u200b", "names"]
  answer = tag({"words": given}, ["B-PER", "I-PER"])
  assert [word.word for word in answer] == given
  assert [word.label for word in answer] == ["O", "B-PER", "O", "I-PER"]
  assert [word.start for word in answer] == [0, 1, 2, 3]
  # As the scorer sees them: not one entity over the word between.
  found = tag({"words": given}, ["B-PER", "I-PER"], entities=True)
  assert [(entity.start, entity.end) for entity in found] == [(1, 2), (3, 4)]


def rows_of(record, max_length):
  task = cases.task("tagging", Words(max_length), tags=TokenLabels(LABELS))
  return task.preprocess(record)


def test_gold_tags_are_learned_on_first_pieces_alone():
  words = ["it", "sorted", "\u200b", "names"]
  tags = ["O", "B-PER", "B-LOC", "I-LOC"]
  (row,) = rows_of({"words": words, "tags": tags}, 32)
  # [CLS] it sort ##ed names [SEP]
  assert row.token_ids.shape == (6,)
  expected = {
    "tags/labels": [0, 0, 1, 0, 4, 0],
    "tags/weights": [0, 1, 1, 0, 1, 0],
    "inputs/word_weights": [0, 1, 1, 0, 1, 0],
    "inputs/starts": [0, 0, 1, 0, 3, 0],
    "inputs/ends": [0, 1, 2, 0, 4, 0],
  }
  assert {k: v.tolist() for k, v in row.targets.items()} == expected
  (row,) = rows_of({"words": words}, 32)
  assert "tags/weights" not in row.targets
  assert row.targets["inputs/word_weights"].sum() == 3


@pytest.mark.parametrize("max_length", [4, 9, 16])
def test_each_word_of_a_long_sentence_is_learned_in_one_chunk(max_length):
  words = LONG.split()
  tags = [LABELS[n % len(LABELS)] for n in range(len(words))]
  rows = rows_of({"words": words, "tags": tags}, max_length)
  assert len(rows) > 2
  learned = []
  for row in rows:
    sizes = {array.shape for array in row.targets.values()}
    assert sizes == {row.token_ids.shape}
    assert row.token_ids.size <= max_length
    used = row.targets["tags/weights"] > 0
    learned += zip(
      row.targets["inputs/starts"][used].tolist(),
      row.targets["tags/labels"][used].tolist(),
      row.token_ids[used].tolist(),
    )
  pieces = [small.tokenizer().encode(word).ids[1] for word in words]
  ids = [LABELS.index(tag) for tag in tags]
  assert learned == [*zip(range(len(words)), ids, pieces)]


def write(path, sentences):
  blocks = ("\n".join(map("\t".join, zip(*s))) for s in sentences)
  path.write_text("\n\n".join(blocks) + "\n")
  return str(path)


TRAIN = [
  (["the", "list", "names", "it"], ["O", "B-PER", "I-PER", "O"]),
  (["a", "list"], ["B-LOC", "O"]),
  (LONG.split(), ["O"] * len(LONG.split())),
]
HELD_OUT = [
  (["it", "sorted", "a", "list"], ["B-PER", "I-PER", "O", "B-LOC"]),
  (["a", "\u200b", "list"], ["O", "O", "O"]),
  ([*LONG.split(), "it"], ["O"] * len(LONG.split()) + ["B-LOC"]),
]


def task_of(tmp_path, train=TRAIN, held_out=HELD_OUT, labels=None, **data):
  files = {
    "train": write(tmp_path / "train.conll", train),
    "eval": write(tmp_path / "dev.conll", held_out),
  }
  known = labels and TokenLabels(labels)
  return cases.fit(tmp_path, "tagging", [], pretrained=known, **files, **data)


def labels_of(made):
  return made[0].targets["tags"].labels


def test_labels_come_from_the_training_data_the_outsider_first(tmp_path):
  made = task_of(tmp_path, max_length=12)
  assert labels_of(made) == ("O", "B-LOC", "B-PER", "I-PER")
  assert made[0].inputs == Words(12)
  batch = made[1].training(2, 0, None).batch(0, range(2))
  assert {array.shape for array in batch.targets.values()} == {
    batch.token_ids.shape
  }


def test_labels_of_the_config_or_of_the_pretrained_model_stay(tmp_path):
  given = ("I-PER", "B-PER", "B-LOC", "I-LOC", "O")
  assert labels_of(task_of(tmp_path, tags={"labels": given})) == given
  assert labels_of(task_of(tmp_path, labels=given)) == given
  # One that does not cover the data says nothing.
  made = task_of(tmp_path, labels=given[:3])
  assert labels_of(made) == ("O", "B-LOC", "B-PER", "I-PER")


def predictions_of(task, predicted):
  names = task.targets["tags"].labels
  return [
    {"tags": cases.labelled([names.index(tag) for tag in tags])}
    for tags in predicted
  ]


def test_metrics_are_of_entities_and_of_all_words(tmp_path):
  task, data = task_of(tmp_path, max_length=1000)
  held_out = data.evaluation()
  gold = [tags for _, tags in HELD_OUT]
  perfect = task.evaluate(held_out.records, predictions_of(task, gold))
  assert perfect == {"precision": 1, "recall": 1, "f1": 1, "accuracy": 1}
  # An I instead of B begins an entity too; one is missed, one invented.
  wrong = [["I-PER", "I-PER", "O", "O"], ["B-LOC", "O", "O"], gold[2]]
  metrics_ = task.evaluate(held_out.records, predictions_of(task, wrong))
  words = sum(map(len, gold))
  assert metrics_["precision"] == pytest.approx(2 / 3)
  assert metrics_["recall"] == pytest.approx(2 / 3)
  assert metrics_["accuracy"] == pytest.approx((words - 3) / words)
  names = sorted({*itertools.chain(*gold, *wrong)})
  ids = ([np.array([*map(names.index, x)]) for x in s] for s in (gold, wrong))
  assert metrics_ == metrics.evaluate(*ids, names)
  baseline = data.baselines(held_out.records)
  expected = {"accuracy_majority_baseline": (words - 4) / words}
  assert baseline == pytest.approx(expected)


def test_parts_of_speech_are_tags_too(tmp_path):
  train = [(["it", "sorted", "names"], ["PRON", "VERB", "NOUN"])]
  made = task_of(tmp_path, train, train)
  assert labels_of(made) == ("NOUN", "PRON", "VERB")
  found = predictions_of(made[0], [["PRON", "NOUN", "NOUN"]])
  metrics_ = made[0].evaluate(made[1].evaluation().records, found)
  assert metrics_["accuracy"] == pytest.approx(2 / 3)


def test_a_tag_that_training_never_saw_is_an_error_of_the_model(tmp_path):
  held_out = [*HELD_OUT, (["a", "list"], ["O", "B-ORG"])]
  task, data = task_of(tmp_path, held_out=held_out)
  records = data.evaluation().records
  *_, (example,) = data.evaluation().examples
  assert example.targets["tags/weights"].sum() == 1
  tags = task.targets["tags"]
  ids = {name: number for number, name in enumerate(tags.labels)}
  predictions = [
    {"tags": cases.labelled([ids.get(tag, 0) for tag in record["tags"]])}
    for record in records
  ]
  found = task.evaluate(records, predictions)
  assert found["precision"] == 1
  assert found["recall"] < 1
  shown = task.view(records, predictions)
  assert shown.tables["entities"]["ORG"]["recall"] == 0
  assert [row["missed"] for row in shown.mistakes] == ["ORG: list"]
  assert shown.confusion.labels[-1] == "B-ORG"


def test_bad_tags_of_training_records_are_bad_rows_too(tmp_path):
  rows = [
    {"words": ["a", "list"], "tags": ["O", "B-LOC"]},
    {"words": ["a", "list"], "tags": ["O"]},
    {"words": ["a", "list"], "tags": ["O", 1.5]},
  ]
  made = cases.fit(tmp_path, "tagging", rows, bad_rows="skip")
  assert labels_of(made) == ("O", "B-LOC")
  assert len(made[1].evaluation().records) == 1
  with user_error(r"train.jsonl:2: .*2 words, got 1"):
    cases.fit(tmp_path, "tagging", rows)

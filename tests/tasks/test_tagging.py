import dataclasses
import itertools

import numpy as np
import pytest
from bert_jax.tasks.scores import entities as scores

from bert_jax.data.grouping import pad
from bert_jax.settings import UserError, from_dict
from bert_jax.tasks import answering, tagging
from tests import small
from tests.tasks.cases import ENCODER, LONG, predictor

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC")


def logits_of(batch, labels, ids):
  """Of the first pieces those of these ids; with certainty wrong elsewhere."""
  logits = np.zeros((*batch.token_ids.shape, len(labels)), np.float32)
  logits[..., -1] = 50
  for (row, place), id in zip(
    np.argwhere(batch.targets["word_weights"]), ids, strict=False
  ):
    logits[row, place] = 0
    logits[row, place, id] = 3
  return logits


def tag(record, labels, max_length=32, entities=False):
  """Answers of a model that gives first pieces these labels, in turn."""
  head = tagging.Head(LABELS, max_length)
  config = dataclasses.replace(ENCODER, max_positions=1000)
  task = tagging.make(config, small.tokenizer(), head)
  examples = task.prepare(record)
  batch = pad(examples, task.axes)
  ids = (LABELS.index(label) for label in itertools.cycle(labels))
  logits = logits_of(batch, LABELS, ids)
  found = task.answer(logits, batch, [record] * len(examples), entities)
  return task.join(found)


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


def test_windows_are_joined_to_one_answer():
  whole = tag({"text": LONG}, ["B-PER", "O", "I-LOC"], max_length=1000)
  parts = tag({"text": LONG}, ["B-PER", "O", "I-LOC"], max_length=12)
  assert parts == whole
  assert [word.word for word in whole] == LONG.split()
  (entity,) = tag({"text": LONG}, ["I-PER"], max_length=12, entities=True)
  assert (entity.start, entity.end) == (0, len(LONG.rstrip()))


def test_given_words_have_indices_for_characters():
  given = ["it", "sorted", "names"]
  answer = predictor("tagging")([{"words": given}])[0]
  assert [word.word for word in answer] == given
  assert [(word.start, word.end) for word in answer] == [(0, 1), (1, 2), (2, 3)]


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
  head = tagging.Head(LABELS, max_length)
  return tagging.make(ENCODER, small.tokenizer(), head).prepare(record)


def test_gold_tags_are_learned_on_first_pieces_alone():
  words = ["it", "sorted", "\u200b", "names"]
  tags = ["O", "B-PER", "B-LOC", "I-LOC"]
  (row,) = rows_of({"words": words, "tags": tags}, 32)
  # [CLS] it sort ##ed names [SEP]
  assert row.token_ids.shape == (6,)
  expected = {
    "labels": [0, 0, 1, 0, 4, 0],
    "label_weights": [0, 1, 1, 0, 1, 0],
    "word_weights": [0, 1, 1, 0, 1, 0],
    "starts": [0, 0, 1, 0, 3, 0],
    "ends": [0, 1, 2, 0, 4, 0],
  }
  assert {k: v.tolist() for k, v in row.targets.items()} == expected
  (row,) = rows_of({"words": words}, 32)
  assert row.targets["label_weights"].sum() == 0
  assert row.targets["word_weights"].sum() == 3


@pytest.mark.parametrize("max_length", [4, 9, 16])
def test_each_word_of_a_long_sentence_is_learned_in_one_window(max_length):
  words = LONG.split()
  tags = [LABELS[n % len(LABELS)] for n in range(len(words))]
  rows = rows_of({"words": words, "tags": tags}, max_length)
  assert len(rows) > 2
  learned = []
  for row in rows:
    sizes = {array.shape for array in row.targets.values()}
    assert sizes == {row.token_ids.shape}
    assert row.token_ids.size <= max_length
    used = row.targets["label_weights"] > 0
    learned += zip(
      row.targets["starts"][used].tolist(),
      row.targets["labels"][used].tolist(),
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


def task_of(tmp_path, train=TRAIN, held_out=HELD_OUT, head=None, **data):
  files = {
    "train": write(tmp_path / "train.conll", train),
    "eval": write(tmp_path / "dev.conll", held_out),
  }
  section = from_dict(tagging.Data, files | data, "config.data")
  return tagging.make(ENCODER, small.tokenizer(), head, data=section)


def test_labels_come_from_the_training_data_the_outsider_first(tmp_path):
  task = task_of(tmp_path, max_length=12)
  assert task.head == tagging.Head(("O", "B-LOC", "B-PER", "I-PER"), 12)
  assert task.model.num_labels == 4
  batch = task.data.training(2, 0, None).batch(0, range(2))
  assert {array.shape for array in batch.targets.values()} == {
    batch.token_ids.shape
  }


def test_labels_of_the_config_or_of_the_model_to_go_on_from_stay(tmp_path):
  given = ("I-PER", "B-PER", "B-LOC", "I-LOC", "O")
  assert task_of(tmp_path, labels=given).head.labels == given
  assert task_of(tmp_path, head=tagging.Head(given)).head.labels == given
  # One that does not cover the data says nothing.
  task = task_of(tmp_path, head=tagging.Head(given[:3]))
  assert task.head.labels == ("O", "B-LOC", "B-PER", "I-PER")


def answers_of(task, held_out, predicted):
  """The answers of a model that predicts these tags."""
  labels = task.head.labels
  wanted = {
    (tuple(record["words"]), word): labels.index(tag)
    for record, tags in zip(held_out.records, predicted)
    for word, tag in enumerate(tags)
  }
  by_row = {
    example.token_ids.tobytes(): tuple(record["words"])
    for record, made in zip(held_out.records, held_out.examples)
    for example in made
  }

  def forward(batch):
    ids = []
    for row, place in np.argwhere(batch.targets["word_weights"]):
      own = batch.token_ids[row][batch.sequence_ids[row] > 0]
      word = int(batch.targets["starts"][row, place])
      ids.append(wanted[by_row[own.tobytes()], word])
    return logits_of(batch, labels, ids)

  return answering.answers(
    task, held_out.records, held_out.examples, forward, 4, **task.scoring
  )


def test_scores_are_of_entities_and_of_all_words(tmp_path):
  task = task_of(tmp_path, max_length=1000)
  held_out = task.data.evaluation()
  gold = [tags for _, tags in HELD_OUT]
  answers = answers_of(task, held_out, gold)
  assert [len(words) for words in answers] == [len(tags) for tags in gold]
  perfect = task.score(task.head, answers, held_out.records)
  assert perfect == {"precision": 1, "recall": 1, "f1": 1, "accuracy": 1}
  # An I instead of B begins an entity too; one is missed, one invented.
  wrong = [["I-PER", "I-PER", "O", "O"], ["B-LOC", "O", "O"], gold[2]]
  answers = answers_of(task, held_out, wrong)
  found = task.score(task.head, answers, held_out.records)
  words = sum(map(len, gold))
  assert found["precision"] == pytest.approx(2 / 3)
  assert found["recall"] == pytest.approx(2 / 3)
  assert found["accuracy"] == pytest.approx((words - 3) / words)
  assert found == scores.score(gold, wrong)
  baseline = task.data.baselines(held_out.records)
  expected = {"accuracy_majority_baseline": (words - 4) / words}
  assert baseline == pytest.approx(expected)


def test_parts_of_speech_are_tags_too(tmp_path):
  train = [(["it", "sorted", "names"], ["PRON", "VERB", "NOUN"])]
  task = task_of(tmp_path, train, train)
  assert task.head.labels == ("NOUN", "PRON", "VERB")
  held_out = task.data.evaluation()
  answers = answers_of(task, held_out, [["PRON", "NOUN", "NOUN"]])
  found = task.score(task.head, answers, held_out.records)
  assert found["accuracy"] == pytest.approx(2 / 3)


def test_an_unknown_tag_is_a_bad_row(tmp_path):
  held_out = [*HELD_OUT, (["a", "list"], ["O", "B-ORG"])]
  lines = sum(len(words) + 1 for words, _ in HELD_OUT)
  place = f"dev.conll:{lines + 1}: tags: unknown 'B-ORG'; known: O, B-LOC"
  with pytest.raises(UserError, match=place):
    task_of(tmp_path, held_out=held_out)
  task = task_of(tmp_path, held_out=held_out, bad_rows="skip")
  assert len(task.data.evaluation().records) == len(HELD_OUT)
  assert any(place in note for note in task.data.notes)


def test_bad_tags_of_training_records_are_bad_rows_too(tmp_path):
  path = tmp_path / "train.jsonl"
  path.write_text(
    '{"words": ["a", "list"], "tags": ["O", "B-LOC"]}\n'
    '{"words": ["a", "list"], "tags": ["O"]}\n'
    '{"words": ["a", "list"], "tags": ["O", 1.5]}\n'
  )
  files = {"train": str(path), "eval": str(path)}
  section = from_dict(tagging.Data, files | {"bad_rows": "skip"})
  task = tagging.make(ENCODER, small.tokenizer(), data=section)
  assert task.head.labels == ("O", "B-LOC")
  assert len(task.data.evaluation().records) == 1
  with pytest.raises(UserError, match=r"train.jsonl:2: .*2 words, got 1"):
    tagging.make(
      ENCODER, small.tokenizer(), data=from_dict(tagging.Data, files)
    )


def test_labels_of_the_config_are_checked():
  with pytest.raises(UserError, match=r"config.data.labels: expected no name"):
    from_dict(tagging.Data, {"labels": ["O", "O"]}, "config.data")

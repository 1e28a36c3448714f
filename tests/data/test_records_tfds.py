"""Labelled records from TFDS data sets that are built here."""

import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from bert_jax.data import records
from tests.data import labelled
from tests.errors import user_error

features = tfds.features
ANSWERS = {"text": features.Text(), "answer_start": np.int32}


class TinyLabelled(tfds.core.GeneratorBasedBuilder):
  """The forms of GLUE, CoNLL-2003, SQuAD and XNLI in one."""

  VERSION = tfds.core.Version("1.0.0")
  code_path = None  # Finding it takes a package that TFDS does not require.

  def _info(self):
    tags = features.ClassLabel(names=["O", "B-PER"])
    both = ["en", "zh"]
    form = {
      "sentence": features.Text(),
      "label": features.ClassLabel(names=["negative", "positive"]),
      "idx": np.int32,
      "score": np.float32,
      "tokens": features.Sequence(features.Text()),
      "ner": features.Sequence(tags),
      "answers": features.Sequence(ANSWERS),
      "premise": features.Translation(languages=both),
      "hypothesis": features.TranslationVariableLanguages(languages=both),
      "deep": {"inner": {"label": tags}},
    }
    return tfds.core.DatasetInfo(
      builder=self, features=features.FeaturesDict(form)
    )

  def _split_generators(self, _):
    return {
      "train": self._generate_examples(8, True),
      "test": self._generate_examples(2, False),
    }

  def _generate_examples(self, count, labelled):
    for i in range(count):
      answer = {"text": "é", "answer_start": 2}
      yield (
        i,
        {
          "sentence": f"{i} é.",
          "label": i % 2 if labelled else -1,
          "idx": i,
          "score": i / 2,
          "tokens": [str(i), "é"][: 1 + i % 2],
          "ner": ["B-PER", "O"][: 1 + i % 2],
          "answers": [answer] * (i % 3),
          "premise": {"en": "one", "zh": "一"},
          "hypothesis": {"zh": "二"} | ({"en": "two"} if i != 3 else {}),
          "deep": {"inner": {"label": "O"}},
        },
      )


class TinyBroken(TinyLabelled):
  """Its examples cannot be had."""

  VERSION = tfds.core.Version("1.0.0")

  def _split_generators(self, _):
    raise ConnectionError("no route to host\nat all")


class TinyNeedy(TinyLabelled):
  """Its code needs TensorFlow, as SuperGLUE's does."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self):
    raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  return str(tmp_path_factory.mktemp("tfds"))


def configured(data_dir, **options):
  given = {"train": "train", "dataset": "tiny_labelled", "data_dir": data_dir}
  return labelled.configured(**given | options)


@pytest.fixture(scope="module")
def prepared(data_dir):
  """It is prepared by reading it with `download`."""
  with user_error(r"config.data.download=True"):
    records.read(configured(data_dir), "train", ("label",))
  config = configured(data_dir, download=True)
  assert len(records.read(config, "train", ("label",)).rows) == 8
  return data_dir


def read(data_dir, fields, optional=(), **options):
  return records.read(
    configured(data_dir, **options), "train", fields, (), optional
  )


def test_labels_have_their_names(prepared):
  columns = {"text": "sentence"}
  found = read(
    prepared, ("idx", "text", "pair", "label"), ("pair",), columns=columns
  )
  assert sorted(row.record["idx"] for row in found.rows) == list(range(8))
  for row in found.rows:
    i = row.record["idx"]
    label = ["negative", "positive"][i % 2]
    assert row.record == {"idx": i, "text": f"{i} é.", "label": label}
  assert found.rows[5].where == "tiny_labelled[train]:5"
  assert "tensorflow" not in sys.modules


def test_an_unlabelled_split(prepared):
  columns = {"text": "sentence"}
  fields = ("text", "label")
  with user_error(r"tiny_labelled\[test\]:0: the label is -1"):
    read(prepared, fields, train="test", columns=columns)
  with user_error(r"no rows are left, 2 are bad"):
    read(prepared, fields, train="test", columns=columns, bad_rows="skip")
  assert len(read(prepared, ("text",), train="test", columns=columns).rows) == 2


def test_sequences_of_labels_and_plain_python_values(prepared):
  columns = {"words": "tokens", "tags": "ner", "label": "deep.inner.label"}
  found = read(
    prepared, ("idx", "score", "words", "tags", "label"), columns=columns
  )
  for row in found.rows:
    i = row.record["idx"]
    words, tags = [str(i), "é"][: 1 + i % 2], ["B-PER", "O"][: 1 + i % 2]
    expected = {"idx": i, "score": i / 2, "words": words, "tags": tags}
    assert row.record == expected | {"label": "O"}
    types = [type(row.record[name]) for name in ("idx", "score", "words")]
    assert types == [int, float, list]


def test_answers_of_squad(prepared):
  found = read(
    prepared, ("idx", "context", "answers"), columns={"context": "sentence"}
  )
  for row in found.rows:
    answers = [{"text": "é", "start": 2}] * (row.record["idx"] % 3)
    assert row.record["answers"] == answers


def test_one_language_of_xnli(prepared):
  columns = {"text": "premise.zh", "pair": "hypothesis.en"}
  found = read(
    prepared, ("text", "pair", "idx"), columns=columns, bad_rows="skip"
  )
  texts = {(row.record["text"], row.record["pair"]) for row in found.rows}
  assert texts == {("一", "two")}
  assert {row.record["idx"] for row in found.rows} == {0, 1, 2, 4, 5, 6, 7}
  assert "no text in 'en'" in found.skipped[0]


def test_slices_and_fingerprints(prepared):
  found = read(prepared, ("idx",), train="train[:25%]+train[75%:],test[:1]")
  assert len(found.rows) == 5
  first, again, other = (
    records.fingerprint(configured(prepared, train=split), "train")
    for split in ("train[:50%]", "train[:50%]", "train[50%:]")
  )
  assert first == again != other


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"train": "dev"}, r"config.data.train: .*'dev'"),
    ({"train": "train[:"}, r"config.data.train: .*'train\[:'"),
    ({"columns": {"label": "labels"}}, r"columns.label: .*'labels'; its feat"),
    ({"columns": {"label": "deep.x"}}, r"columns.label: .*'deep.x'"),
    ({"columns": {"label": "premise.fr"}}, r"columns.label: .*'premise.fr'"),
    ({"dataset": "no_such"}, r"config.data.dataset: .*does not know 'no_such'"),
    (
      {"dataset": "no_such", "download": True},
      r"config.data.dataset: .*does not know 'no_such'",
    ),
    (
      {"dataset": "tiny_broken", "download": True},
      r"config.data.dataset: .*'tiny_broken': ConnectionError: no route to hos",
    ),
    (
      {"dataset": "tiny_needy", "download": True},
      r"dataset: .*'tiny_needy' cannot run here: .*'tensorflow'",
    ),
  ],
)
def test_mistakes(prepared, options, message):
  with user_error(message):
    read(prepared, ("label",), **options)


def test_glue_is_known_without_tensorflow(prepared, monkeypatch):
  """TFDS itself stops looking before it has come to GLUE."""
  started = []
  monkeypatch.setattr(
    tfds.core.DatasetBuilder,
    "download_and_prepare",
    lambda builder: started.append(str(builder.info.full_name)),
  )
  with user_error(r"'glue/sst2' is not prepared"):
    read(prepared, ("label",), dataset="glue/sst2", download=True)
  assert started[0].startswith("glue/sst2/")

import dataclasses
import json

import jax
import numpy as np
import pytest

from bert_jax.data import grouping
from bert_jax.settings import UserError
from bert_jax.tasks import TASKS
from tests.tasks.cases import ENCODER, OTHERS, RECORDS, predictor

# A mixed task is what its parts are; test_mixed.py has it.
ALONE = [name for name in TASKS if name != "mixed"]
IDS = ("token_ids", "segment_ids", "position_ids", "sequence_ids")


def plain(answer):
  """An answer as JSON has it; vectors as lists."""

  def default(value):
    if isinstance(value, np.ndarray):
      return value.tolist()
    return dataclasses.asdict(value)

  return json.loads(json.dumps(answer, default=default))


def assert_same(one, other):
  """Compares nested answers, numbers but about."""
  if isinstance(one, dict):
    assert one.keys() == other.keys()
    one, other = list(one.values()), list(other.values())
  if isinstance(one, list):
    assert len(one) == len(other)
    for pair in zip(one, other):
      assert_same(*pair)
  elif isinstance(one, float):
    np.testing.assert_allclose(one, other, atol=1e-4, rtol=1e-4)
  else:
    assert one == other


def test_every_task_has_a_case():
  assert RECORDS.keys() == {*ALONE} == OTHERS.keys()


@pytest.mark.parametrize("name", ALONE)
def test_a_task_says_what_it_is(name):
  task = predictor(name).task
  assert task.name == name
  assert task.config == ENCODER
  assert task.data is None
  head = getattr(TASKS[name], "Head", None)
  assert task.head == (head() if head else None)


@pytest.mark.parametrize("name", ALONE)
def test_examples_are_unpadded_rows_of_ids(name):
  task = predictor(name).task
  for record in (RECORDS[name], *OTHERS[name]):
    examples = task.prepare(record)
    assert examples
    for example in examples:
      arrays = [getattr(example, field) for field in IDS]
      assert {array.dtype for array in arrays} == {np.dtype(np.int32)}
      assert len({array.shape for array in arrays}) == 1
      assert arrays[0].ndim == task.blank.token_ids.ndim
      assert arrays[0].shape[-1] <= ENCODER.max_positions
      dtypes = {str(x.dtype) for x in example.targets.values()}
      assert dtypes <= {"int32", "float32", "bool"}
      if task.blank.token_ids.ndim == 1:
        assert (example.sequence_ids == 1).all()
        assert example.position_ids.tolist() == [*range(arrays[0].size)]


@pytest.mark.parametrize("name", ALONE)
def test_what_is_said_of_each_token_is_padded_as_tokens_are(name):
  task = predictor(name).task
  records = [RECORDS[name], *OTHERS[name]]
  examples = [part for record in records for part in task.prepare(record)]
  lengths = [example.token_ids.shape[-1] for example in examples]
  assert len({*lengths}) > 1
  batch = grouping.pad(examples, task.axes, grow=lambda _: 48)
  assert batch.token_ids.shape[-1] == 48
  for target, padded in batch.targets.items():
    shapes = [example.targets[target].shape for example in examples]
    if [shape[-1:] for shape in shapes] == [(length,) for length in lengths]:
      assert padded.shape[-1] == 48


@pytest.mark.parametrize("name", ALONE)
def test_answers_do_not_depend_on_the_other_records(name):
  alone = plain(predictor(name)(RECORDS[name]))
  together = plain(predictor(name)([RECORDS[name], *OTHERS[name]]))
  assert len(together) == 1 + len(OTHERS[name])
  assert_same(together[0], alone)


@pytest.mark.parametrize("name", ALONE)
def test_loss_and_metrics_of_a_blank_row_are_zero_over_nothing(name):
  task = predictor(name).task
  batch = jax.tree.map(lambda x: x[None], task.blank)
  outputs = jax.eval_shape(
    task.model.apply, {"params": predictor(name).params}, batch
  )
  outputs = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), outputs)
  means = task.loss(outputs, batch) | task.metrics(outputs, batch)
  for mean in means.values():
    assert mean.total == 0
    assert mean.weight == 0
    assert mean.value() == 0


@pytest.mark.parametrize("name", ALONE)
def test_without_a_vocabulary_no_text_is_taken(name):
  task = TASKS[name].make(ENCODER, None)
  with pytest.raises(UserError, match="came without a vocabulary"):
    task.prepare(RECORDS[name])


ONE_TEXT = (
  "embedding",
  "replaced_tokens",
  "tagging",
  "classification",
  "dialogue",
  "multi_label",
  "regression",
)
WRONG = [
  *((name, {}, "the field 'text', a text; got {}") for name in ONE_TEXT),
  *((name, {"text": 3}, "the field 'text', a text") for name in ONE_TEXT),
  ("classification", {"text": "a", "pair": 3}, "the field 'pair', a text"),
  (
    "classification",
    {"text": "a", "label": "X"},
    "label: unknown 'X'; known: LABEL_0, LABEL_1",
  ),
  ("classification", {"text": " ", "label": "LABEL_0"}, "'text' is empty"),
  ("classification", {"text": "a", "label": 0.5}, "the label 0.5: expected"),
  ("multi_label", {"text": "a", "labels": ["X"]}, "labels: unknown 'X'; known"),
  ("multi_label", {"text": "a", "labels": "X"}, "'labels': expected a list of"),
  ("multi_label", {"text": "", "labels": []}, "'text' is empty"),
  ("regression", {"text": "a", "label": "X"}, "'label': expected a number, g"),
  ("regression", {"text": "a", "label": "nan"}, "'label': expected a number"),
  ("regression", {"text": "a", "label": True}, "'label': expected a number"),
  ("regression", {"text": "a", "label": 1e39}, "'label': expected a number"),
  ("regression", {"text": "a", "values": 1.0}, "'values': expected a list of"),
  ("regression", {"text": "a", "values": []}, "'values': expected a list of"),
  (
    "regression",
    {"text": "a", "values": [1, 2]},
    r"expected 1 values \(value\), got 2",
  ),
  ("regression", {"text": "", "label": 1}, "'text' is empty"),
  ("next_sentence", {"text": "a"}, "the field 'pair', a text"),
  ("next_sentence", {"pair": "a"}, "the field 'text', a text"),
  ("multiple_choice", {"text": "a"}, "the field 'choices', a list of texts"),
  (
    "multiple_choice",
    {"text": "a", "choices": "it"},
    "the field 'choices', a list of texts",
  ),
  (
    "multiple_choice",
    {"text": "a", "choices": ["it", None]},
    "the field 'choices', a list of texts",
  ),
  ("multiple_choice", {"text": "a", "choices": []}, "'choices' is empty"),
  ("multiple_choice", {"choices": ["a"]}, "the field 'text', a text"),
  (
    "multiple_choice",
    {"text": "", "choices": ["a"], "label": 0},
    "'text' is empty",
  ),
  (
    "multiple_choice",
    {"text": "a", "choices": ["a", "b"], "label": "C"},
    "the label 'C': expected the place of one of 2 choices, from 0 to 1, or",
  ),
  (
    "multiple_choice",
    {"text": "a", "choices": ["a"], "question": 3},
    "the field 'question', a text",
  ),
  ("embedding", {"text": "a", "pair": 3}, "the field 'pair', a text"),
  ("embedding", {"text": "", "pair": "a"}, "'text' is empty"),
  ("embedding", {"text": "a", "negative": "b"}, "the field 'pair', a text"),
  (
    "embedding",
    {"text": "a", "pair": "b", "negative": " "},
    "'negative' is empty",
  ),
  ("question_answering", {"question": "a"}, "the field 'context', a text"),
  ("question_answering", {"context": "a"}, "the field 'question', a text"),
  (
    "question_answering",
    {"question": " ", "context": "a"},
    "'question' is empty",
  ),
  (
    "question_answering",
    {"question": "a", "context": "\n"},
    "'context' is empty",
  ),
  (
    "question_answering",
    {"question": "a", "context": "b", "answers": "b"},
    "answers: expected a list, got 'b'",
  ),
  (
    "question_answering",
    {
      "question": "a",
      "context": "a b",
      "answers": [{"text": "b", "start": 1}],
    },
    "the answer 'b' is not at character 1 of the context, where ' ' is",
  ),
  ("tagging", {"words": "the list"}, "the field 'words', a list of texts"),
  ("tagging", {"words": []}, "'words' is empty"),
  ("tagging", {"words": ["a", 3]}, "the field 'words', a list of texts"),
  ("tagging", {"text": "a", "tags": ["O"]}, "the field 'words', a list"),
  ("tagging", {"words": ["a"], "tags": "O"}, "tags: expected a list of names"),
  ("tagging", {"words": ["a"], "tags": []}, "one for each of 1 words, got 0"),
  ("tagging", {"words": ["a"], "tags": ["X"]}, "tags: unknown 'X'; known: LAB"),
  ("tagging", {"words": ["a"], "tags": [None]}, "the label None: expected"),
  (
    "dialogue",
    {"words": ["a"], "tags": ["X"]},
    "tags: unknown 'X'; known: LAB",
  ),
  ("dialogue", {"text": "a", "label": "X"}, "label: unknown 'X'; known: INT"),
  ("dialogue", {"text": "a", "label": 0.5}, "the label 0.5: expected"),
]


@pytest.mark.parametrize(("name", "record", "message"), WRONG)
def test_what_is_wrong_with_a_record_is_said_in_a_line(name, record, message):
  with pytest.raises(UserError, match=message) as error:
    predictor(name)([RECORDS[name], record])
  assert str(error.value).startswith("input 2: ")
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("classification", {"top_k": 0}),
    ("classification", {"top_k": 1.5}),
    ("multi_label", {"top_k": 0}),
    ("question_answering", {"top_k": -1}),
    ("question_answering", {"max_answer_length": "30"}),
  ],
)
def test_options_are_checked(name, options):
  (option,) = options
  with pytest.raises(UserError, match=f"{option}: expected a whole number"):
    predictor(name)([RECORDS[name]], **options)


@pytest.mark.parametrize(
  ("name", "fields", "message"),
  [
    ("classification", {"labels": ()}, "labels: expected at least one"),
    ("classification", {"labels": ("a", "a")}, "labels: expected no name twic"),
    ("classification", {"max_length": -1}, "max_length: expected at least 0"),
    ("multi_label", {"labels": ()}, "labels: expected at least one"),
    ("multi_label", {"thresholds": (0.5,)}, "thresholds: expected 2, one a la"),
    ("regression", {"max_length": -1}, "max_length: expected at least 0"),
    ("regression", {"means": (0.0, 1.0)}, "means: expected 1, one a label"),
    ("regression", {"means": (float("inf"),)}, "means: expected finite numb"),
    ("regression", {"scales": (0.0,)}, "scales: expected above 0"),
    ("embedding", {"pooling": ()}, "pooling: expected some of cls, max, mean"),
    ("embedding", {"pooling": ("sum",)}, "pooling: expected some of"),
    ("embedding", {"max_length": -1}, "max_length: expected at least 0"),
    ("multiple_choice", {"max_length": -1}, "max_length: expected at least 0"),
    ("question_answering", {"max_length": 0}, "max_length: expected at least"),
    ("question_answering", {"stride": -1}, "stride: expected at least 0"),
    ("question_answering", {"max_question": 0}, "max_question: expected at"),
    ("question_answering", {"null_threshold": float("nan")}, "a finite number"),
    ("tagging", {"labels": ()}, "labels: expected at least one"),
    ("tagging", {"labels": ("O", "O")}, "labels: expected no name twice"),
    ("tagging", {"max_length": -1}, "max_length: expected at least 0"),
    ("dialogue", {"intents": ()}, "intents: expected at least one"),
    ("dialogue", {"labels": ("O", "O")}, "labels: expected no name twice"),
    ("dialogue", {"max_length": -1}, "max_length: expected at least 0"),
  ],
)
def test_heads_are_checked(name, fields, message):
  with pytest.raises(ValueError, match=message):
    TASKS[name].Head(**fields)

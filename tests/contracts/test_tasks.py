"""A contract over every task, every kind of inputs and every target."""

import dataclasses
import importlib
import json
import pathlib
import pickle

import jax
import numpy as np
import pytest

from bert_jax.data import grouping
from bert_jax.predictor import Predictor
from bert_jax.settings import from_dict
from bert_jax.tasks import TASKS, Target, Task, Texts, from_state, targets
from bert_jax.tasks.targets.labels import LabelledTarget
from bert_jax.tasks.targets.target import json_line
from tests import small
from tests.commands import python
from tests.errors import user_error
from tests.tasks.cases import ENCODER, OTHERS, RECORDS, assert_same, model

IDS = ("token_ids", "segment_ids", "position_ids", "sequence_ids")
ABSTRACT = {Target, LabelledTarget}
# Every other target of the folder, whether or not a task of the table has it.
TARGETS = {
  cls.__name__: cls
  for path in sorted(pathlib.Path(targets.__path__[0]).glob("*.py"))
  for cls in vars(
    importlib.import_module(f"bert_jax.tasks.targets.{path.stem}")
  ).values()
  if isinstance(cls, type) and issubclass(cls, Target) and cls not in ABSTRACT
}


def test_every_task_has_a_case():
  assert RECORDS.keys() == {*TASKS} == OTHERS.keys()


def test_every_target_is_one_of_a_task():
  used = {
    type(target).__name__
    for task in TASKS.values()
    for target in task.targets.values()
  }
  assert used == {*TARGETS}


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_has_the_required_methods(name):
  Task("custom", Texts(), {"mine": TARGETS[name]()})  # Raises what is lacking.


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_is_data_and_declares_its_arrays(name):
  target = TARGETS[name]()
  assert TARGETS[name].__dataclass_params__.frozen
  kept = json.loads(json.dumps(dataclasses.asdict(target)))
  assert from_dict(TARGETS[name], kept) == target
  dummies = target.dummy_arrays()
  assert dummies.keys() == target.array_specs.keys()
  for key, (dtype, _) in target.array_specs.items():
    assert dummies[key].dtype == dtype
  assert target.same_outputs(TARGETS[name]())
  others = {*TARGETS} - {name}
  assert not any(target.same_outputs(TARGETS[x]()) for x in others)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_reads_what_it_writes_for_hugging_face(name):
  target = TARGETS[name]()
  keys = json.loads(json.dumps(target.to_huggingface()))
  if target.ARCHITECTURE and target.reads_huggingface(keys, "config.json"):
    again = TARGETS[name].from_huggingface(keys, "config.json")
    assert again.same_outputs(target)


@pytest.mark.parametrize("missing", Target.REQUIRED)
def test_a_custom_target_that_lacks_a_method_is_named(missing):
  methods = {
    name: lambda self: None for name in Target.REQUIRED if name != missing
  }
  cls = dataclasses.make_dataclass(
    "Custom", [], bases=(Target,), namespace=methods, frozen=True
  )
  with pytest.raises(TypeError, match=rf"'mine': Custom lacks {missing};"):
    Task("custom", Texts(), {"mine": cls()})
  with pytest.raises(TypeError, match="'mine': object lacks head"):
    Task("custom", Texts(), {"mine": object()})


@pytest.mark.parametrize("name", TASKS)
def test_a_task_says_what_it_is(name):
  task = model(name).task
  assert task.name == name
  assert task.config == ENCODER
  assert task.targets.keys() == TASKS[name].targets.keys()
  kept = json.loads(json.dumps(task.state()))
  assert from_state(kept, "state").state() == task.state()
  with user_error("state: expected the targets"):
    from_state({**kept, "targets": {}}, "state")


@pytest.mark.parametrize("name", TASKS)
def test_examples_are_unpadded_rows_of_ids(name):
  task = model(name).task
  for record in (RECORDS[name], *OTHERS[name]):
    examples = task.preprocess(record)
    assert examples
    for example in examples:
      arrays = [getattr(example, field) for field in IDS]
      assert {array.dtype for array in arrays} == {np.dtype(np.int32)}
      assert len({array.shape for array in arrays}) == 1
      assert arrays[0].shape[-1] <= ENCODER.max_positions
      dtypes = {str(x.dtype) for x in example.targets.values()}
      assert dtypes <= {"int32", "float32", "bool"}
      known = {f"{target}/" for target in task.targets} | {"inputs/"}
      assert all(key.startswith(tuple(known)) for key in example.targets)
      if arrays[0].ndim == 1:
        assert (example.sequence_ids == 1).all()
        assert example.position_ids.tolist() == [*range(arrays[0].size)]


@pytest.mark.parametrize("name", TASKS)
def test_what_is_said_of_each_token_is_padded_as_tokens_are(name):
  task = model(name).task
  records = [RECORDS[name], *OTHERS[name]]
  examples = [part for record in records for part in task.preprocess(record)]
  lengths = [example.token_ids.shape[-1] for example in examples]
  assert len({*lengths}) > 1
  batch = grouping.pad(examples, task.axes, grow=lambda _: 48)
  assert batch.token_ids.shape[-1] == 48
  for target, padded in batch.targets.items():
    shapes = [example.targets[target].shape for example in examples]
    if [shape[-1:] for shape in shapes] == [(length,) for length in lengths]:
      assert padded.shape[-1] == 48


@pytest.mark.parametrize("name", TASKS)
def test_answers_do_not_depend_on_the_other_records(name):
  alone = model(name)(RECORDS[name])
  together = model(name)([RECORDS[name], *OTHERS[name]])
  assert len(together) == 1 + len(OTHERS[name])
  assert_same(together[0], alone)


@pytest.mark.parametrize("name", TASKS)
def test_an_answer_has_lines_for_a_terminal(name):
  answer = model(name)(RECORDS[name])
  lines = model(name).task.lines(answer)
  assert lines
  assert all(isinstance(line, str) and "\n" not in line for line in lines)


@pytest.mark.parametrize("name", TASKS)
def test_loss_and_metrics_of_a_dummy_row_are_zero_over_nothing(name):
  task = model(name).task
  batch = jax.tree.map(lambda x: x[None], task.dummy_batch)
  outputs = jax.eval_shape(
    task.module.apply, {"params": model(name).params}, batch
  )
  outputs = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), outputs)
  losses = task.loss(outputs, batch)
  assert losses
  for mean in (losses | task.metrics(outputs, batch)).values():
    assert mean.total == 0
    assert mean.weight == 0
    assert mean.value() == 0


@pytest.mark.parametrize("name", TASKS)
def test_without_a_vocabulary_no_text_is_taken(name):
  task = TASKS[name].bind(ENCODER, None)
  with user_error("came without a vocabulary"):
    task.preprocess(RECORDS[name])


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
  ("classification", {"text": " ", "label": "LABEL_0"}, "'text' is empty"),
  ("classification", {"text": "a", "label": 0.5}, "the label 0.5: expected"),
  ("classification", {"text": "a", "label": ""}, "the label '': expected"),
  ("multi_label", {"text": "a", "labels": "X"}, "'labels': expected a list of"),
  ("multi_label", {"text": "a", "labels": ["LABEL_0", None]}, "has no label"),
  ("multi_label", {"text": "", "labels": []}, "'text' is empty"),
  ("regression", {"text": "a", "label": "X"}, "'label': expected a number, g"),
  ("regression", {"text": "a", "label": "nan"}, "'label': expected a number"),
  ("regression", {"text": "a", "label": True}, "'label': expected a number"),
  ("regression", {"text": "a", "label": 1e39}, "'label': expected a number"),
  ("regression", {"text": "a", "values": 1.0}, "'values': expected a list of"),
  ("regression", {"text": "a", "values": []}, "'values': expected a list of"),
  ("regression", {"text": "a", "values": [1, 2]}, r"expected 1 values \(value"),
  ("regression", {"text": "", "label": 1}, "'text' is empty"),
  ("next_sentence", {"text": "a"}, "the field 'pair', a text"),
  ("next_sentence", {"pair": "a"}, "the field 'text', a text"),
  ("multiple_choice", {"text": "a"}, "the field 'choices', a list of texts"),
  ("multiple_choice", {"text": "a", "choices": "it"}, "the field 'choices', a"),
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
  ("embedding", {"text": "a", "pair": "b", "negative": " "}, "'negative' is e"),
  ("question_answering", {"question": "a"}, "the field 'context', a text"),
  ("question_answering", {"context": "a"}, "the field 'question', a text"),
  ("question_answering", {"question": " ", "context": "a"}, "'question' is em"),
  ("question_answering", {"question": "a", "context": "\n"}, "'context' is em"),
  (
    "question_answering",
    {"question": "a", "context": "b", "answers": "b"},
    "answers: expected a list, got 'b'",
  ),
  (
    "question_answering",
    {"question": "a", "context": "a b", "answers": [{"text": "b", "start": 1}]},
    "the answer 'b' is not at character 1 of the context, where ' ' is",
  ),
  ("generation", {}, "the field 'text', a text; got {}"),
  ("generation", {"text": " "}, "'text' is empty; expected a text"),
  ("generation", {"text": "\x00"}, "'text' is empty; expected a text"),
  ("generation", {"turns": "it"}, "the field 'turns', a list of texts"),
  ("generation", {"turns": []}, "'turns' is empty"),
  ("generation", {"turns": [" ", ""]}, "'turns' is empty"),
  ("tagging", {"words": "the list"}, "the field 'words', a list of texts"),
  ("tagging", {"words": []}, "'words' is empty"),
  ("tagging", {"words": ["a", 3]}, "the field 'words', a list of texts"),
  ("tagging", {"text": "a", "tags": ["O"]}, "the field 'words', a list"),
  ("tagging", {"words": ["a"], "tags": "O"}, "tags: expected a list of names"),
  ("tagging", {"words": ["a"], "tags": []}, "one for each of 1 words, got 0"),
  ("tagging", {"words": ["a"], "tags": [None]}, "has no label"),
  ("dialogue", {"text": "a", "label": 0.5}, "the label 0.5: expected"),
]


@pytest.mark.parametrize(("name", "record", "message"), WRONG)
def test_what_is_wrong_with_a_record_is_said_in_a_line(name, record, message):
  with user_error(message) as error:
    model(name)([RECORDS[name], record])
  assert str(error.value).startswith("input 2: ")


@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("generation", {"top_k": -1}),
    ("generation", {"num_beams": 0}),
    ("classification", {"top_k": 0}),
    ("classification", {"top_k": 1.5}),
    ("multi_label", {"top_k": 0}),
    ("question_answering", {"top_k": -1}),
    ("question_answering", {"max_answer_length": "30"}),
  ],
)
def test_options_are_checked(name, options):
  (option,) = options
  with user_error(f"{option}: expected a whole number"):
    model(name)([RECORDS[name]], **options)


@pytest.mark.parametrize(
  ("name", "fields", "message"),
  [
    ("ClassLabel", {"labels": ("a", "a")}, "labels: expected no name twice"),
    ("MultiLabel", {"thresholds": (0.5,)}, "thresholds: expected 2, one a la"),
    ("Values", {"means": (0.0, 1.0)}, "means: expected 1, one a label"),
    ("Values", {"means": (float("inf"),)}, "means: expected finite numb"),
    ("Values", {"scales": (0.0,)}, "scales: expected above 0"),
    ("Similarity", {"pooling": ("sum",)}, "pooling: expected some of cls, max"),
    ("Similarity", {"scale": 0.0}, "scale: expected more than 0"),
    ("Similarity", {"objective": "x"}, "objective: expected contrastive or"),
    ("Similarity", {"scale": float("nan")}, "scale: expected more than 0"),
    ("Similarity", {"label_range": (1.0,)}, "label_range: expected the least"),
    ("Similarity", {"label_range": (1.0, 0.0)}, "label_range: expected the le"),
    ("NextTokens", {"objective": "x"}, "objective: expected causal or masked"),
    ("NextTokens", {"label_smoothing": 1.0}, "label_smoothing: expected at le"),
    ("NextTokens", {"max_target_length": -1}, "max_target_length: expected at"),
    ("Span", {"null_threshold": float("nan")}, "a finite number"),
    ("TokenLabels", {"labels": ("O", "O")}, "labels: expected no name twice"),
  ],
)
def test_options_of_targets_are_checked(name, fields, message):
  with pytest.raises(ValueError, match=message):
    TARGETS[name](**fields)


@pytest.mark.parametrize("name", TASKS)
def test_options_of_inputs_are_checked(name):
  inputs = TASKS[name].inputs
  with pytest.raises(ValueError, match="max_length: expected at least"):
    dataclasses.replace(inputs, max_length=-1)
  if hasattr(inputs, "stride"):
    with pytest.raises(ValueError, match="stride: expected at least 0"):
      dataclasses.replace(inputs, stride=-1)
  if hasattr(inputs, "max_question"):
    with pytest.raises(ValueError, match="max_question: expected at least 1"):
      dataclasses.replace(inputs, max_question=0)


_WITHOUT_JAX = """
import pickle, sys
for name in ("jax", "flax", "scipy", "sklearn", "grain", "array_record"):
  sys.modules[name] = None  # An error to import.
from bert_jax import tasks, text
from bert_jax.predictor import Predictor
from bert_jax.tasks.targets.target import json_line
folder, path = sys.argv[1:]
with open(path, "rb") as file:
  cases = pickle.load(file)
for state, config, record, outputs in cases:
  task = tasks.from_state(state, "state").bind(config, text.load(folder))
  print(json_line(Predictor(task, lambda batch: outputs)([record])))
"""


def test_answers_are_the_same_in_a_process_without_jax(tmp_path):
  (folder := tmp_path / "vocabulary").mkdir()
  small.tokenizer().save(folder)
  cases, expected = [], []
  for name, record in RECORDS.items():
    own, outputs = model(name), []

    def forward(batch, compute=own.forward, outputs=outputs):
      outputs.append(jax.device_get(compute(batch)))
      return outputs[-1]

    expected += Predictor(own.task, forward)([record])
    cases.append((own.task.state(), own.config, record, *outputs))
  (tmp_path / "cases").write_bytes(pickle.dumps(cases))
  done = python(_WITHOUT_JAX, folder, tmp_path / "cases")
  found = [json.loads(line)[0] for line in done.stdout.splitlines()]
  for one, other in zip(found, expected, strict=True):
    assert_same(one, json.loads(json_line(other)))

"""The answers of every task: labels, tags, spans, masks, choices, vectors."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from bert_jax.serving.endpoints import Call, Endpoint
from bert_jax.serving.errors import ServingError
from bert_jax.serving.routes import inputs
from bert_jax.serving.served import Served
from bert_jax.tasks import TASKS
from bert_jax.tasks.targets.choice import RankedChoice
from bert_jax.tasks.targets.class_label import Label
from bert_jax.tasks.targets.masked_tokens import Candidate
from bert_jax.tasks.targets.multi_label import ChosenLabel
from bert_jax.tasks.targets.next_sentence import Follows
from bert_jax.tasks.targets.next_tokens import Text
from bert_jax.tasks.targets.replaced_tokens import Token
from bert_jax.tasks.targets.span import Answer
from bert_jax.tasks.targets.token_labels import Entity, Word
from bert_jax.tasks.targets.values import Value

ANSWERS = (
  Label,
  ChosenLabel,
  Value,
  Word,
  Entity,
  Answer,
  RankedChoice,
  Token,
  Candidate,
  Follows,
  Text,
)
"""The classes of all tasks' answers."""


def _answer_schema() -> dict[str, Any]:
  """JSON Schema of the answer to one input, which msgspec cannot express."""
  one = [{"$ref": f"#/components/schemas/{kind.__name__}"} for kind in ANSWERS]
  number = {"type": "number"}
  items = {"anyOf": [*one, number, {"type": "array"}]}
  of_target = [*one, {"type": "array", "items": items}]
  # Several targets have an answer each, by name.
  several = {"type": "object", "additionalProperties": {"anyOf": of_target}}
  return {"anyOf": [*of_target, several, {"type": "null"}]}


def _record_type() -> type[msgspec.Struct]:
  """A struct with the fields of all tasks' records."""
  given = [task.inputs for task in TASKS.values()]
  names = dict.fromkeys(
    name for x in given for name in (*x.FIELDS, *x.PREDICTION)
  )
  lists = {name for x in given for name in x.LISTS}
  # The task of a record for a multi-task model.
  fields: list[Any] = [("task", str | None, None)]
  for name in names:
    kind: Any = list[str] if name in lists else str
    kind = str | int if name == "id" else kind
    fields.append((name, kind | None, None))
  made = msgspec.defstruct(
    "Record",
    fields,
    forbid_unknown_fields=True,
    module=__name__,
    omit_defaults=True,
  )
  made.__doc__ = "One input of a task, with the fields that the task has."
  return made


Record = _record_type()


class PredictRequest(msgspec.Struct, forbid_unknown_fields=True):
  """Inputs to predict for.

  Attributes:
    inputs: a text or record, or a list of them.
    options: of the model's answers, such as `top_k`.
    on_error: with `item`, a bad input does not refuse the others; its answer
      is null.
    version: of the model; by default the current one.
  """

  inputs: (
    str
    | Record  # type: ignore[valid-type]
    | Annotated[list[str | Record], msgspec.Meta(min_length=1)]  # type: ignore[valid-type]
  )
  options: dict[str, str | int | float | bool | None] = {}
  on_error: Literal["request", "item"] = "request"
  version: str | None = None


class ItemError(msgspec.Struct):
  """Why one of several inputs has no answer."""

  item: int
  code: str
  message: str


class PredictAnswer(msgspec.Struct):
  """The answers, in the order of the inputs."""

  model: str
  version: str
  answers: list[
    Annotated[Any, msgspec.Meta(extra_json_schema=_answer_schema())]
  ]
  errors: list[ItemError]


async def predict(call: Call) -> PredictAnswer:
  """The answers of a model's task."""
  body: PredictRequest = call.body
  served = call.find(call.path["model"], body.version)
  given = body.inputs if isinstance(body.inputs, list) else [body.inputs]
  call.take(given)
  partial = body.on_error == "item"
  records: list[Any] = []
  errors: dict[int, ServingError] = {}
  for item, value in enumerate(given):
    try:
      records.append(_record(served, value, item))
    except ServingError as error:
      if not partial:
        raise
      errors[item] = error
  answers = (
    await served.answer(
      records,
      options=body.options,
      deadline=call.deadline,
      partial=partial,
      usage=call.usage,
    )
    if records
    else []
  )
  merged: list[Any] = []
  of_good = iter(answers)
  for item in range(len(given)):
    found = errors.get(item) or next(of_good)
    if isinstance(found, ServingError):
      errors[item] = found
      found = None
    merged.append(found)
  listed = [
    ItemError(item, error.code, error.message)
    for item, error in sorted(errors.items())
  ]
  return PredictAnswer(served.name, served.version, merged, listed)


def _record(served: Served, given: Any, item: int) -> Mapping[str, Any] | str:
  """A record with the fields that the task has.

  Raises:
    ServingError: it has another field.
  """
  if isinstance(given, str):
    return given
  record = {
    name: value
    for name, value in msgspec.structs.asdict(given).items()
    if value is not None
  }
  known = inputs.fields_of(served.model.task)
  for name in record:
    if name not in known:
      raise ServingError(
        "unprocessable",
        f"the task {served.model.task.name} has no field {name!r}; known:"
        f" {', '.join(known)}",
        item=item,
      )
  return record


ENDPOINTS = (
  Endpoint(
    "POST",
    "/v1/{model}/predict",
    predict,
    "The answers of a model's task",
    "bert_jax",
    PredictRequest,
    PredictAnswer,
  ),
)

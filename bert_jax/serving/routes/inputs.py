"""What the routes of several protocols do with texts and models."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from bert_jax.serving import bodies
from bert_jax.serving.endpoints import Call
from bert_jax.serving.errors import ServingError
from bert_jax.serving.served import Served
from bert_jax.tasks.targets.similarity import Similarity
from bert_jax.tasks.task import Task

Ids = list[Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]]
Positive = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Inputs = (
  str
  | Annotated[
    list[str | Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | Ids],
    msgspec.Meta(min_length=1),
  ]
)
"""A text, a list of them, or token ids in the place of each."""
Direction = Literal["Left", "Right", "left", "right"]


class Card(msgspec.Struct):
  """A model, as `GET /v1/models` lists it.

  Attributes:
    id: its name.
    created: when it was loaded, in seconds since 1970.
    version: of the model.
    task: what it predicts; its name in the command line.
    fields: of a record for `/v1/NAME/predict`.
    lists: those that are lists of texts.
    options: of its answers.
    labels: the names of its labels, by target.
    engine: what computes it.
    max_length: tokens of a text, at most.
    outputs: further ones, such as `sparse_embedding`.
    parts: the tasks of a multi-task model.
  """

  id: str
  created: int
  version: str
  task: str
  fields: list[str]
  lists: list[str]
  options: list[str]
  labels: dict[str, list[str]]
  engine: str
  max_length: int
  outputs: list[str]
  parts: list[str]
  object: Literal["model"] = "model"
  owned_by: str = "bert_jax"


def card(served: Served) -> Card:
  """The card of a model."""
  task = served.model.task
  labels = {
    name: list(names)
    for name, target in task.targets.items()
    if (names := getattr(target, "names", None))
  }
  parts = [task, *task.parts.values()]
  return Card(
    id=served.name,
    created=int(served.loaded_at),
    version=served.version,
    task=task.name,
    fields=list(fields_of(task)),
    lists=sorted({name for part in parts for name in part.inputs.LISTS}),
    options=sorted(task.options),
    labels=labels,
    engine=served.engine,
    max_length=served.max_length,
    outputs=[*served.model.forward.outputs],
    parts=list(task.parts),
  )


def fields_of(task: Task) -> tuple[str, ...]:
  """The fields that a record to predict for may have."""
  if task.parts:
    names = dict.fromkeys(["task"])
    for part in task.parts.values():
      names |= dict.fromkeys(fields_of(part))
    return tuple(names)
  return tuple(dict.fromkeys([*task.inputs.FIELDS, *task.inputs.PREDICTION]))


def is_embedding(task: Task) -> bool:
  """Whether the task's answers are vectors of texts."""
  return any(isinstance(x, Similarity) for x in task.targets.values())


def texts(call: Call, served: Served, given: Any) -> tuple[list[str], bool]:
  """The texts of `Inputs`, and whether there was a single one.

  Token ids are those of the model's vocabulary; they are decoded, as in
  text-embeddings-inference.

  Raises:
    ServingError: there are too many, or an id is not in the vocabulary.
  """
  single = isinstance(given, str) or all(isinstance(x, int) for x in given)
  given = [given] if single else given
  call.take(given)
  found = []
  for number, item in enumerate(given):
    if isinstance(item, int):
      raise ServingError(
        "unprocessable",
        "inputs: expected texts or token ids, got both in one list",
        item=number,
      )
    text = item if isinstance(item, str) else decode(served, item, number)
    found.append(text)
  return found, single


def decode(served: Served, ids: Sequence[int], item: int) -> str:
  """The text of token ids.

  Raises:
    ServingError: the vocabulary has no such id, or there are none.
  """
  tokenizer = served.model.task.tokenizer
  size = len(tokenizer)
  if not ids or max(ids) >= size:
    raise ServingError(
      "unprocessable",
      f"token ids: expected at least one, each below {size}",
      item=item,
    )
  return tokenizer.decode(ids)


def prompt(served: Served, name: str | None) -> str:
  """What the model puts before each text that it embeds.

  Args:
    served: the model.
    name: of one of its prompts; None for the one that it always has.

  Raises:
    UserError: the model has no prompt of that name.
  """
  named = {} if name is None else {"prompt_name": name}
  return served.model.embedding_task(**named).inputs.prompt


async def fit(
  served: Served,
  given: list[str],
  truncate: bool | None,
  direction: str,
  prefix: str = "",
) -> list[str]:
  """Texts, cut at their beginning where that is asked for.

  Args:
    served: the model.
    given: the texts.
    truncate: whether long texts may be cut; None for yes.
    direction: `Left` cuts the beginning, `Right` is left to the model.
    prefix: what the model puts before each.

  Raises:
    ServingError: a text is too long, and must not be cut.
  """
  left = direction.lower() == "left"
  if truncate is not False and not left:
    return given
  limit, found = served.max_length, []
  encodings = await served.tokenize([prefix + text for text in given])
  for number, (text, encoding) in enumerate(zip(given, encodings)):
    over = len(encoding.ids) - limit
    if over > 0 and truncate is False:
      raise ServingError(
        "unprocessable",
        f"the text has {len(encoding.ids)} tokens; the model takes at most"
        f" {limit}",
        item=number,
      )
    if over > 0:
      own = [
        start - len(prefix)
        for start, end in encoding.offsets
        if end > start >= len(prefix)
      ]
      text = text[own[over] :] if over < len(own) else ""
    found.append(text)
  return found


def floats(vector: np.ndarray) -> list[Any]:
  """The numbers of an array, exactly."""
  return np.asarray(vector, np.float32).tolist()


async def encode_large(arrays: Sequence[np.ndarray]) -> bytes:
  """Arrays as JSON, letting other requests go on in between."""
  parts = []
  for array in arrays:
    parts.append(bodies.encode(floats(array)))
    await asyncio.sleep(0)
  return b"[" + b",".join(parts) + b"]"

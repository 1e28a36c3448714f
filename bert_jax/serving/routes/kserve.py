"""KServe's protocol version 2 (Open Inference Protocol).

An input tensor is a field of the records, of the datatype BYTES with one text
a record; a field that is a list of texts has the shape [records, texts]. The
output is `embedding`, FP32 [records, width], of an embedding model, and of
others `answer`, BYTES [records], each the JSON of `/v1/NAME/predict`.
"""

from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from bert_jax.serving import bodies
from bert_jax.serving.endpoints import VERSION, Call, Endpoint, Raw
from bert_jax.serving.errors import ServingError
from bert_jax.serving.routes import inputs as shared
from bert_jax.serving.served import Served

_TAG = "KServe v2"

Parameters = dict[str, str | int | float | bool | None]


class InputTensor(msgspec.Struct, forbid_unknown_fields=True):
  """A field of all records, in the order of rows."""

  name: str
  shape: Annotated[
    list[Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]],
    msgspec.Meta(min_length=1, max_length=2),
  ]
  datatype: Literal["BYTES"]
  data: list[str | list[str]]
  parameters: Parameters = {}


class RequestedOutput(msgspec.Struct, forbid_unknown_fields=True):
  """An output that is wanted."""

  name: str
  parameters: Parameters = {}


class InferRequest(msgspec.Struct, forbid_unknown_fields=True):
  """Records as tensors; the parameters are options of the answers."""

  inputs: Annotated[list[InputTensor], msgspec.Meta(min_length=1)]
  id: str | None = None
  parameters: Parameters = {}
  outputs: list[RequestedOutput] | None = None


class OutputTensor(msgspec.Struct):
  """What is computed, in the order of rows."""

  name: str
  shape: list[int]
  datatype: str
  data: list[float | str]


class InferAnswer(msgspec.Struct, omit_defaults=True):
  """The outputs of all records."""

  model_name: str
  model_version: str
  outputs: list[OutputTensor]
  id: str | None = None


class TensorMetadata(msgspec.Struct):
  """A tensor; a size of -1 varies."""

  name: str
  datatype: str
  shape: list[int]


class ModelMetadata(msgspec.Struct):
  """What a model takes and gives."""

  name: str
  versions: list[str]
  platform: str
  inputs: list[TensorMetadata]
  outputs: list[TensorMetadata]


class ServerMetadata(msgspec.Struct):
  """The server."""

  name: str
  version: str
  extensions: list[str]


class Live(msgspec.Struct):
  """Whether the server lives."""

  live: bool


class Ready(msgspec.Struct):
  """Whether the server takes requests."""

  ready: bool


class ModelReady(msgspec.Struct):
  """Whether a model takes requests."""

  name: str
  ready: bool


async def _server(call: Call) -> ServerMetadata:
  del call
  return ServerMetadata("bert_jax", VERSION, [])


async def _live(call: Call) -> Live:
  del call
  return Live(True)


async def _ready(call: Call) -> Any:
  if call.registry.ready:
    return Ready(True)
  return Raw(bodies.encode(Ready(False)), status=503)


def _find(call: Call) -> Served:
  return call.find(call.path["model"], call.path.get("version"))


async def _metadata(call: Call) -> ModelMetadata:
  served = _find(call)
  task = served.model.task
  fields = shared.fields_of(task)
  lists = {n for x in (task, *task.parts.values()) for n in x.inputs.LISTS}
  return ModelMetadata(
    served.name,
    [served.version],
    f"bert_jax_{served.engine}",
    [
      TensorMetadata(name, "BYTES", [-1, -1] if name in lists else [-1])
      for name in fields
    ],
    [
      TensorMetadata("embedding", "FP32", [-1, -1])
      if shared.is_embedding(task)
      else TensorMetadata("answer", "BYTES", [-1])
    ],
  )


async def _model_ready(call: Call) -> ModelReady:
  return ModelReady(_find(call).name, True)


async def _infer(call: Call) -> InferAnswer:
  body: InferRequest = call.body
  served = _find(call)
  records = _records(served, body.inputs)
  call.take(records, "records")
  embeds = shared.is_embedding(served.model.task)
  name = "embedding" if embeds else "answer"
  for wanted in body.outputs or ():
    if wanted.name != name:
      raise ServingError(
        "unprocessable",
        f"outputs: unknown {wanted.name[:40]!r}; known: {name}",
      )
  found = await served.answer(
    records,
    options=body.parameters,
    deadline=call.deadline,
    usage=call.usage,
  )
  if embeds:
    vectors = _stack(found)
    output = OutputTensor(
      name, [*vectors.shape], "FP32", shared.floats(vectors.ravel())
    )
  else:
    data = [bodies.encode(answer).decode() for answer in found]
    output = OutputTensor(name, [len(data)], "BYTES", data)
  return InferAnswer(served.name, served.version, [output], body.id)


def _stack(vectors: list[np.ndarray]) -> np.ndarray:
  if len({vector.shape for vector in vectors}) > 1:
    raise ServingError(
      "unprocessable", "expected records of one text, or all of pairs"
    )
  return np.stack(vectors)


def _records(
  served: Served, tensors: list[InputTensor]
) -> list[dict[str, Any]]:
  """The records that the tensors hold the fields of.

  Raises:
    ServingError: a tensor is no field, or has another shape than the data.
  """
  task = served.model.task
  known = shared.fields_of(task)
  lists = {n for x in (task, *task.parts.values()) for n in x.inputs.LISTS}
  rows = tensors[0].shape[0]
  records: list[dict[str, Any]] = [{} for _ in range(min(rows, 1 << 20))]
  for tensor in tensors:
    name, shape = tensor.name, tensor.shape
    if name not in known or (records and name in records[0]):
      raise _bad(
        f"inputs: {name[:40]!r} is unknown or there twice; known:"
        f" {', '.join(known)}"
      )
    width = shape[1] if len(shape) == 2 else 1
    data = [
      text
      for item in tensor.data
      for text in (item if isinstance(item, list) else [item])
    ]
    if shape[0] != rows or len(data) != rows * width:
      raise _bad(
        f"inputs.{name}: the shape {shape} does not fit {len(data)} texts, or"
        f" the {rows} records of the first input"
      )
    if name in lists:
      for row, record in enumerate(records):
        record[name] = data[row * width : (row + 1) * width]
    elif width == 1:
      for record, text in zip(records, data):
        record[name] = text
    else:
      raise _bad(f"inputs.{name}: expected one text a record, got {width}")
  return records


def _bad(message: str) -> ServingError:
  return ServingError("unprocessable", message)


def _get(path: str, run: Any, summary: str, answer: Any, is_open=False):
  return Endpoint(
    "GET",
    path,
    run,
    summary,
    _TAG,
    answer=answer,
    is_open=is_open,
    style="kserve",
  )


_MODEL = "/v2/models/{model}"
_VERSION = "/v2/models/{model}/versions/{version}"

ENDPOINTS = (
  _get("/v2", _server, "The server", ServerMetadata, is_open=True),
  _get("/v2/health/live", _live, "Whether it lives", Live, is_open=True),
  _get("/v2/health/ready", _ready, "Whether it is ready", Ready, is_open=True),
  *(
    endpoint
    for path in (_MODEL, _VERSION)
    for endpoint in (
      _get(path, _metadata, "What a model takes and gives", ModelMetadata),
      _get(f"{path}/ready", _model_ready, "Whether it is ready", ModelReady),
      Endpoint(
        "POST",
        f"{path}/infer",
        _infer,
        "The answers of a model",
        _TAG,
        InferRequest,
        InferAnswer,
        style="kserve",
      ),
    )
  ),
)

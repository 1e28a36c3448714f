"""The description of the API, OpenAPI 3.1, from the endpoints' types."""

import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from bert_jax.serving.endpoints import VERSION, Endpoint
from bert_jax.serving.errors import STATUS
from bert_jax.serving.routes import predict

_PARAMETER = re.compile(r"{(\w+)}")


class ErrorContent(msgspec.Struct):
  """What went wrong: a code for programs and a sentence for people."""

  message: str
  type: str
  code: Literal[tuple(STATUS)]  # type: ignore[valid-type]
  param: str | None
  item: int | None = None
  request_id: str | None = None


class Error(msgspec.Struct):
  """An error, in OpenAI's form."""

  error: ErrorContent


class TextEmbeddingsInferenceError(msgspec.Struct):
  """An error, in the form of text-embeddings-inference."""

  error: str
  error_type: str
  code: Literal[tuple(STATUS)]  # type: ignore[valid-type]


class KServeError(msgspec.Struct):
  """An error, in the form of KServe."""

  error: str
  code: Literal[tuple(STATUS)]  # type: ignore[valid-type]


_ERRORS = {
  "": Error,
  "tei": TextEmbeddingsInferenceError,
  "kserve": KServeError,
}
_HEADERS: Any = (
  (
    "X-Request-Id",
    "Comes back in the answer and stands in the log.",
    {"type": "string"},
  ),
  (
    "X-Request-Timeout",
    "The seconds after which the request is not computed.",
    {"type": "number", "exclusiveMinimum": 0, "maximum": 86400},
  ),
)


def make(
  listed: Sequence[Endpoint], needs_token: bool, title: str
) -> dict[str, Any]:
  """The description of endpoints.

  Args:
    listed: the endpoints.
    needs_token: whether those that are not open need a bearer token.
    title: of the API.
  """
  types = [t for x in listed for t in (x.body, x.answer) if _is_json(t)]
  types += predict.ANSWERS
  types += [_ERRORS[style] for style in sorted({x.style for x in listed})]
  schemas, components = msgspec.json.schema_components(
    types, ref_template="#/components/schemas/{name}"
  )
  found = dict(zip(map(repr, types), schemas))
  paths: dict[str, dict[str, Any]] = {}
  for endpoint in listed:
    operation = _operation(endpoint, found, needs_token)
    paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
  made: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {
      "title": title,
      "version": VERSION,
      "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    },
    "tags": [{"name": tag} for tag in dict.fromkeys(x.tag for x in listed)],
    "paths": paths,
    "components": {"schemas": dict(components)},
  }
  if needs_token:
    scheme = {"type": "http", "scheme": "bearer"}
    made["components"]["securitySchemes"] = {"token": scheme}
  return made


def _is_json(kind: Any) -> bool:
  return kind is not None and not isinstance(kind, str)


def _operation(
  endpoint: Endpoint, schemas: dict[str, Any], needs_token: bool
) -> dict[str, Any]:
  names = [
    "get" if endpoint.method == "GET" else "post",
    *re.findall(r"\w+", endpoint.path),
  ]
  parameters = [
    _parameter("path", name, "", {"type": "string", "minLength": 1})
    for name in _PARAMETER.findall(endpoint.path)
  ]
  parameters += [
    _parameter("query", name, meaning, {"type": "string"})
    for name, meaning in endpoint.query.items()
  ]
  parameters += [_parameter("header", *header) for header in _HEADERS]
  operation: dict[str, Any] = {
    "operationId": "_".join(names),
    "summary": endpoint.summary,
    "tags": [endpoint.tag],
    "parameters": parameters,
    "responses": _responses(endpoint, schemas, needs_token),
  }
  if endpoint.body is not None:
    content = {"application/json": {"schema": schemas[repr(endpoint.body)]}}
    operation["requestBody"] = {"required": True, "content": content}
  if needs_token and not endpoint.is_open:
    operation["security"] = [{"token": []}]
  return operation


def _parameter(
  place: str, name: str, meaning: str, schema: dict[str, Any]
) -> dict[str, Any]:
  made = {
    "name": name,
    "in": place,
    "required": place == "path",
    "schema": schema,
  }
  return {**made, "description": meaning} if meaning else made


def _responses(
  endpoint: Endpoint, schemas: dict[str, Any], needs_token: bool
) -> dict[str, Any]:
  good: dict[str, Any] = {"description": "The answer."}
  if isinstance(endpoint.answer, str):
    good["content"] = {endpoint.answer: {"schema": {"type": "string"}}}
  elif endpoint.answer is not None:
    schema = schemas[repr(endpoint.answer)]
    good["content"] = {"application/json": {"schema": schema}}
  error = schemas[repr(_ERRORS[endpoint.style])]
  content = {"application/json": {"schema": error}}
  codes = {400, 404, 405, 408, 429, 431, 500, 503}
  if needs_token and not endpoint.is_open:
    codes.add(401)
  if endpoint.body is not None:
    codes |= {413, 415, 422, 504}
  descriptions = {
    status: ", ".join(code for code, x in STATUS.items() if x == status)
    for status in codes
  }
  return {
    "200": good,
    **{
      str(status): {"description": descriptions[status], "content": content}
      for status in sorted(codes)
    },
  }

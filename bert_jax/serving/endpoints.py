"""An endpoint of the API is data: a path, types, and what it computes."""

import dataclasses
import importlib.metadata
import time
from collections.abc import (
  AsyncGenerator,
  Awaitable,
  Callable,
  Mapping,
  Sequence,
)
from typing import Any, ClassVar
from urllib import parse

import msgspec

from bert_jax.serving.errors import ServingError
from bert_jax.serving.registry import Registry
from bert_jax.serving.served import Served, Usage
from bert_jax.serving.settings import ServeSettings

try:
  VERSION = importlib.metadata.version("bert_jax")
except importlib.metadata.PackageNotFoundError:  # A checkout.
  VERSION = "0"


@dataclasses.dataclass(frozen=True)
class Raw:
  """An answer that is not JSON, or has another status.

  Attributes:
    content: the bytes.
    media_type: of these.
    status: of HTTP.
    headers: further ones.
  """

  content: bytes = b""
  media_type: str = "application/json"
  status: int = 200
  headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Streamed:
  """An answer that is sent while it is made, as server-sent events.

  Attributes:
    events: the content of each, without its frame.
  """

  events: AsyncGenerator[bytes]
  media_type: ClassVar[str] = "text/event-stream"


@dataclasses.dataclass(eq=False)
class Call:
  """One request to an endpoint.

  Attributes:
    registry: the models.
    settings: the limits.
    metrics: of the server.
    path: the parameters in the path.
    query: those after it.
    body: of the endpoint's type.
    request_id: which the answer repeats.
    deadline: when the client stops to wait, of `time.monotonic()`.
    usage: what the call computed.
    served: the version of the model that answers.
    items: the number of texts or records.
    texts: these, for the log if it has texts.
  """

  registry: Registry
  settings: ServeSettings
  metrics: Any
  path: Mapping[str, str]
  query: Mapping[str, str]
  request_id: str
  body: Any = None
  deadline: float | None = None
  usage: Usage = dataclasses.field(default_factory=Usage)
  served: Served | None = None
  items: int = 0
  texts: Sequence[Any] | None = None

  def find(self, name: str | None = None, version: str | None = None) -> Served:
    """The model that the request names, or the first one.

    Args:
      name: its name; by default the query's `model`.
      version: its version; by default the query's, or else the current one.

    Raises:
      ServingError: there is no such model or version.
    """
    name = self.query.get("model") if name is None else name
    version = self.query.get("version") if version is None else version
    self.served = self.registry.get(name, version)
    return self.served

  def take(self, items: Sequence[Any], what: str = "inputs") -> None:
    """Notes the texts or records of the request, if they are within the limits.

    Raises:
      ServingError: there are none or too many, or a text is too long.
    """
    self.items, self.texts = len(items), items
    limits = self.settings
    if not 1 <= len(items) <= limits.max_items:
      raise ServingError(
        "unprocessable",
        f"{what}: expected 1 to {limits.max_items}, got {len(items)}",
      )
    # JSON is at most so long as its body.
    if limits.max_body_size <= limits.max_characters:
      return
    for number, item in enumerate(items):
      if (longest := _longest(item)) > limits.max_characters:
        raise ServingError(
          "unprocessable",
          f"{what}: a text has {longest} characters; expected at most"
          f" {limits.max_characters}",
          item=number,
        )


def _longest(item: Any) -> int:
  """The characters of the longest text in an item."""
  if isinstance(item, str):
    return len(item)
  if isinstance(item, msgspec.Struct):
    item = msgspec.structs.astuple(item)
  if isinstance(item, Mapping):
    item = item.values()
  elif not isinstance(item, list | tuple):
    return 0
  return max(map(_longest, item), default=0)


@dataclasses.dataclass(frozen=True)
class Endpoint:
  """What a method and a path do.

  Attributes:
    method: of HTTP.
    path: as Starlette has it, with parameters in braces.
    run: computes the answer.
    summary: one line for people.
    tag: the group in the documentation.
    body: the type of the body; None without one.
    answer: the type of the answer; a media type where it is not JSON; None
      where it is empty.
    query: optional parameters after the path, and what they mean.
    is_open: whether no token is needed.
    style: of errors, see `bodies.error_json`.
    wide: whether models compute the answer, so that all their errors may come.
  """

  method: str
  path: str
  run: Callable[[Call], Awaitable[Any]]
  summary: str
  tag: str
  body: Any = None
  answer: Any = None
  query: Mapping[str, str] = dataclasses.field(default_factory=dict)
  is_open: bool = False
  style: str = ""

  @property
  def decoder(self) -> msgspec.json.Decoder | None:
    """The decoder of the body."""
    return None if self.body is None else msgspec.json.Decoder(self.body)


def parse_query(endpoint: Endpoint, query: bytes) -> dict[str, str]:
  """The parameters after the path.

  Raises:
    ServingError: one is unknown, or there twice.
  """
  if not query:
    return {}
  try:
    pairs = parse.parse_qsl(
      query.decode("ascii"), keep_blank_values=True, max_num_fields=20
    )
  except ValueError:
    raise ServingError(
      "invalid_request", "the parameters after the path are not valid"
    ) from None
  found: dict[str, str] = {}
  for name, value in pairs:
    if name not in endpoint.query or name in found:
      known = ", ".join(endpoint.query) or "none"
      raise ServingError(
        "invalid_request",
        f"parameter {name[:40]!r}: unknown or there twice; known: {known}",
      )
    found[name] = value
  return found


def parse_deadline(value: bytes | None, limit: float) -> float:
  """When a request's answer is too late, of `time.monotonic()`.

  Args:
    value: the header `X-Request-Timeout`, in seconds.
    limit: the seconds that a request has at most.

  Raises:
    ServingError: the header is no number above 0.
  """
  seconds = limit
  if value is not None:
    try:
      seconds = float(value)
    except ValueError:
      seconds = 0.0
    if not 0 < seconds <= 86_400:
      raise ServingError(
        "invalid_request",
        "x-request-timeout: expected seconds, above 0 and at most 86400",
      )
  return time.monotonic() + min(seconds, limit)

"""The application: endpoints, and what every request passes through."""

import asyncio
import contextlib
import dataclasses
import logging
import os
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from bert_jax.serving import bodies, endpoints, logs, tracing
from bert_jax.serving.access import Access
from bert_jax.serving.endpoints import Call, Endpoint, Raw, Streamed
from bert_jax.serving.errors import ServingError
from bert_jax.serving.metrics import Metrics
from bert_jax.serving.protocol import DISCONNECTED
from bert_jax.serving.registry import Registry
from bert_jax.serving.routes import (
  admin,
  embeddings_inference,
  kserve,
  openai,
  pages,
  predict,
  service,
)
from bert_jax.serving.settings import ServeSettings
from bert_jax.settings import UserError

_LOG = logging.getLogger("bert_jax.serving")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
# What a request whose client went away is counted as, after nginx.
_CLIENT_CLOSED = 499

Headers = list[tuple[bytes, bytes]]


def make_app(
  registry: Registry, metrics: Metrics, settings: ServeSettings
) -> Any:
  """The ASGI application of the API.

  Raises:
    UserError: the file of tokens cannot be read.
  """
  listed = [
    *service.ENDPOINTS,
    *openai.ENDPOINTS,
    *predict.ENDPOINTS,
    *embeddings_inference.ENDPOINTS,
    *kserve.ENDPOINTS,
  ]
  listed = _closed(listed, settings)
  server = Server(registry, metrics, settings)
  found = pages.make(listed, server.access.needs_token)
  return _make([*listed, *found], server)


def make_admin_app(
  registry: Registry, metrics: Metrics, settings: ServeSettings
) -> Any:
  """The ASGI application of the administration, for a port of its own."""
  listed = _closed(admin.ENDPOINTS, settings)
  return _make(listed, Server(registry, metrics, settings))


def _closed(
  listed: Sequence[Endpoint], settings: ServeSettings
) -> list[Endpoint]:
  """The endpoints, of which the metrics may need a token."""
  return [
    dataclasses.replace(x, is_open=settings.open_metrics)
    if x.path == "/metrics"
    else x
    for x in listed
  ]


def _make(listed: Sequence[Endpoint], server: "Server") -> Starlette:
  allowed: dict[str, list[str]] = {}
  for endpoint in listed:
    allowed.setdefault(endpoint.path, []).append(endpoint.method)

  async def not_found(request: Request, error: Exception) -> Response:
    """Another path, or another method."""
    assert isinstance(error, HTTPException)
    route = request.scope.get("route")
    if error.status_code == 405:
      methods = ", ".join(sorted(allowed[route.path]))
      found = ServingError(
        "method_not_allowed",
        f"the method is not allowed here; allowed: {methods}",
      )
      found.headers = {"Allow": methods}
    else:
      found = ServingError("not_found", "there is no such path")
    run = Run(server, request.scope, request.receive, None)
    return run.response(found)

  middleware = []
  if server.settings.cors_origins:
    middleware = [
      Middleware(
        CORSMiddleware,
        allow_origins=server.settings.cors_origins,
        allow_methods=["GET", "POST"],
        allow_headers=[
          "authorization",
          "content-type",
          "x-request-id",
          "x-request-timeout",
        ],
        expose_headers=[
          "retry-after",
          "x-model",
          "x-model-version",
          "x-request-id",
        ],
      )
    ]
  app = Starlette(
    routes=[
      Route(x.path, EndpointApp(server, x), methods=[x.method]) for x in listed
    ],
    exception_handlers={HTTPException: not_found},
    middleware=middleware,
  )
  app.router.redirect_slashes = False
  return app


@dataclasses.dataclass(eq=False)
class Server:
  """What all requests share."""

  registry: Registry
  metrics: Metrics
  settings: ServeSettings

  def __post_init__(self):
    self.access = Access(self.settings)
    self.reader = bodies.Reader(self.settings)


class EndpointApp:
  """An endpoint as an ASGI application."""

  def __init__(self, server: Server, endpoint: Endpoint):
    self._server, self._endpoint = server, endpoint
    self._decoder = endpoint.decoder

  async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
    """Answers one request."""
    run = Run(self._server, scope, receive, self._endpoint)
    try:
      with tracing.span(self._endpoint.path, request_id=run.request_id):
        found = await run.answer(self._decoder)
    except bodies.DisconnectedError:
      run.count(_CLIENT_CLOSED)
      return
    except asyncio.CancelledError:
      if scope.get(DISCONNECTED):
        run.count(_CLIENT_CLOSED)
        raise
      found = ServingError("unavailable", "the server is shutting down")
    except ServingError as error:
      found = error
    except UserError as error:
      found = ServingError("unprocessable", bodies.shorten(str(error)))
    except Exception:
      _LOG.exception(
        "internal error",
        extra={"request_id": run.request_id, "path": self._endpoint.path},
      )
      found = ServingError(
        "internal", "an internal error; see the server's log"
      )
    await run.response(found)(scope, receive, send)


class Run:
  """One request on its way: its id, its time, and its answer."""

  def __init__(
    self, server: Server, scope: Any, receive: Any, endpoint: Endpoint | None
  ):
    self._start = time.perf_counter()
    self._server, self._scope, self._receive = server, scope, receive
    self._endpoint = endpoint
    self._headers: Mapping[bytes, bytes] = dict(scope["headers"])
    given = self._headers.get(b"x-request-id", b"")
    self.request_id = (
      given.decode() if _REQUEST_ID.fullmatch(given) else os.urandom(12).hex()
    )
    self._call: Call | None = None
    self._client = ""

  async def answer(self, decoder: Any) -> Any:
    """What the endpoint answers.

    Raises:
      ServingError: the request is refused.
      DisconnectedError: the client went away.
    """
    server, endpoint = self._server, self._endpoint
    assert endpoint is not None
    if not endpoint.is_open:
      client = self._scope.get("client") or ("",)
      self._client = server.access.check(
        self._headers.get(b"authorization"), client[0]
      )
    call = self._call = Call(
      server.registry,
      server.settings,
      server.metrics,
      self._scope["path_params"],
      endpoints.parse_query(endpoint, self._scope["query_string"]),
      self.request_id,
      deadline=endpoints.parse_deadline(
        self._headers.get(b"x-request-timeout"),
        server.settings.request_timeout,
      ),
    )
    if decoder is not None:
      bodies.check_json(self._headers)
      body = await server.reader.read(self._headers, self._receive)
      call.body = bodies.decode(decoder, body)
    return await endpoint.run(call)

  def response(self, found: Any) -> Response:
    """The answer or the error as a response; counts the request."""
    headers = {"x-request-id": self.request_id}
    headers["x-content-type-options"] = "nosniff"
    if self._server.registry.draining:
      # Clients leave before the listener closes.
      headers["connection"] = "close"
    if self._call is not None and self._call.served is not None:
      headers["x-model"] = self._call.served.name
      headers["x-model-version"] = self._call.served.version
      if self._call.usage.tokens:
        headers["x-compute-tokens"] = str(self._call.usage.tokens)
    if isinstance(found, Streamed):
      events = self._sent(found.events)
      return StreamingResponse(events, 200, headers, found.media_type)
    if isinstance(found, ServingError):
      content = self._error(found)
      raw = Raw(content, status=found.status, headers=found.headers)
    elif isinstance(found, Raw):
      raw = found
    else:
      raw = Raw(bodies.encode(found))
    self.count(raw.status, getattr(found, "code", ""))
    media_type = raw.media_type if raw.content else None
    return Response(
      raw.content, raw.status, {**headers, **raw.headers}, media_type
    )

  def _error(self, error: ServingError) -> bytes:
    style = self._endpoint.style if self._endpoint else ""
    return bodies.error_json(error, style, self.request_id)

  async def _sent(self, events: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    """Server-sent events; counts the request when they end."""
    status, code = _CLIENT_CLOSED, ""
    try:
      async with contextlib.aclosing(events):
        async for event in events:
          yield b"data: " + event + b"\n\n"
      status = 200
    except ServingError as error:
      # The status of the response is sent already.
      status, code = error.status, error.code
      yield b"data: " + self._error(error) + b"\n\n"
    finally:
      self.count(status, code)

  def count(self, status: int, code: str = "") -> None:
    """Counts and logs the request; texts and tokens never."""
    seconds = time.perf_counter() - self._start
    route = self._endpoint.path if self._endpoint else ""
    served = self._call.served if self._call else None
    model = served.name if served else ""
    self._server.metrics.request(route, model, status, seconds, code)
    call = self._call
    logs.request(
      self.request_id,
      route,
      model,
      served.version if served else "",
      status,
      seconds,
      items=call.items if call else 0,
      tokens=call.usage.tokens if call else 0,
      code=code,
      texts=call.texts if call else None,
    )

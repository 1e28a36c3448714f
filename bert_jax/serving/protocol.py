"""HTTP/1.1 on a connection, with deadlines and limits.

A subclass of uvicorn's protocol on httptools (llhttp). Stock servers wait for
some slow clients for ever, and take a head of any size; here every state of a
connection has a deadline:

    state                           deadline          answer
    no request yet, or the next     idle_timeout      none, closed
    the head of a request           head_timeout      408
    its body                        body_timeout      408
    an answer that is not read      write_timeout     none, aborted

A request that could be understood in two ways (RFC 9112, section 11.2) is
answered 400, and its connection is closed: a proxy in front might see another
request than the server.
"""

import asyncio
import functools
import re
from typing import Any

import httptools
from uvicorn.protocols.http import httptools_impl

from bert_jax.serving import bodies
from bert_jax.serving.errors import ServingError
from bert_jax.serving.metrics import Metrics
from bert_jax.serving.settings import ServeSettings

DISCONNECTED = "bert_jax.disconnected"
"""The key of the scope that says that the client went away."""

# What is read, at most, of a refused request before its connection is closed;
# a client that is still sending then sees the answer and not a reset.
_LINGER_BYTES = 4 << 20
_LINGER_SECONDS = 2.0
# A connection without a request is closed so long after the server stops.
_LAST_SECONDS = 0.5
# Requests that may wait on one connection for the answer to an earlier one.
_PIPELINED = 16
# Bytes of a chunked body may be framed by so many more: a client that sends
# single bytes needs 6 for each.
_FRAMING = 8

_CONTINUE = b"HTTP/1.1 100 "
_NUMBER = re.compile(rb"[0-9]{1,18}")


class Protocol(httptools_impl.HttpToolsProtocol):
  """A connection; see the module. `make_protocol` binds the settings."""

  settings: ServeSettings
  metrics: Metrics | None = None

  def __init__(self, *args: Any, **kwargs: Any):
    super().__init__(*args, **kwargs)
    self.timeout_keep_alive = self.settings.idle_timeout
    # The state of reading: "idle", "head", "body", or "refused", in which
    # all that comes is thrown away.
    self._reading = "idle"
    self._received = self._head_bytes = self._body_bytes = 0
    # Bytes of a body that the parser is not given.
    self._unparsed = 0
    self._read_timer: asyncio.TimerHandle | None = None
    self._write_timer: asyncio.TimerHandle | None = None
    self._unwritten = 0
    self._running: dict[Any, asyncio.Task[None]] = {}
    self._close_after_answer = False

  # The connection.

  def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
    """Refuses a connection above the limit."""
    super().connection_made(transport)
    if self.metrics is not None:
      self.metrics.connected(1)
    if len(self.connections) > 2 * self.settings.max_connections:
      transport.abort()
    elif len(self.connections) > self.settings.max_connections:
      error = ServingError("unavailable", "too many connections", retry_after=1)
      self._refuse(error)
    else:
      self._set_read_timer(self.settings.head_timeout)

  def connection_lost(self, exc: Exception | None) -> None:
    """Stops the work for a client that went away."""
    if self.metrics is not None:
      self.metrics.connected(-1)
    self._set_read_timer(None)
    self._set_write_timer(None)
    self._unset_keepalive_if_required()
    super().connection_lost(exc)
    self.pipeline.clear()
    for cycle, task in self._running.items():
      if not cycle.response_complete:
        cycle.disconnected = True
        cycle.scope[DISCONNECTED] = True
        task.cancel()

  def eof_received(self) -> None:
    """A client that closed its half is gone, as Go's server has it."""
    if self._reading in ("head", "body"):
      self._refuse(_bad("the request is not complete"))
    self._abort_later()

  def _start_asgi_task(self, cycle: Any, app: Any) -> None:
    app = functools.partial(_run, app, cycle)
    task = self.loop.create_task(cycle.run_asgi(app))
    self.tasks.add(task)
    self._running[cycle] = task

    def done(task: asyncio.Task[None]) -> None:
      self.tasks.discard(task)
      self._running.pop(cycle, None)

    task.add_done_callback(done)

  # Reading.

  def data_received(self, data: bytes) -> None:
    """Feeds the parser, within the limits of the head and the body."""
    if self._reading == "refused":
      self._received += len(data)
      if self._received > _LINGER_BYTES:
        self.transport.abort()
      return
    self._unset_keepalive_if_required()
    while data and self._reading != "refused" and self.parser is not None:
      if self._reading == "idle":
        self._begin("head", self.settings.head_timeout)
      self._received += len(data)
      data = self._feed_body(data) if self._unparsed else self._feed(data)
      self._check_received()

  def _feed(self, data: bytes) -> bytes:
    """Feeds the parser; returns what comes after a request for an upgrade."""
    try:
      self.parser.feed_data(data)
    except httptools.HttpParserUpgrade as error:
      # The request is answered as HTTP/1.1, as RFC 9110, section 7.8 allows.
      return data[error.args[0] :]
    except httptools.HttpParserError as error:
      refusal = error.__context__
      if not isinstance(refusal, ServingError):
        refusal = _bad("the request is not valid HTTP/1.1")
      self._refuse(refusal)
    return b""

  def _feed_body(self, data: bytes) -> bytes:
    """Takes the body of a request for an upgrade; returns what comes after."""
    body, rest = data[: self._unparsed], data[self._unparsed :]
    self._unparsed -= len(body)
    self.on_body(body)
    if not self._unparsed:
      self.on_message_complete()
    return rest

  def _check_received(self) -> None:
    limits = self.settings
    if self._reading == "head" and self._received > limits.max_head_size:
      self._refuse(_head_too_large(limits))
    elif (
      self._reading == "body"
      and self._received > _FRAMING * limits.max_body_size
    ):
      self._refuse(bodies.too_large(limits))

  def _begin(self, reading: str, seconds: float | None) -> None:
    self._reading, self._received = reading, 0
    self._set_read_timer(seconds)

  def _set_read_timer(self, seconds: float | None) -> None:
    if self._read_timer is not None:
      self._read_timer.cancel()
      self._read_timer = None
    if seconds is not None:
      self._read_timer = self.loop.call_later(seconds, self._read_timed_out)

  def _read_timed_out(self) -> None:
    if self._reading in ("refused", "idle"):
      self._close()
    else:
      seconds = getattr(self.settings, f"{self._reading}_timeout")
      message = f"the {self._reading} did not arrive within {seconds:g} s"
      self._refuse(ServingError("request_timeout", message))

  # The parser's callbacks. An error here is what a request is refused with.

  def on_message_begin(self) -> None:
    """Begins a request, maybe within the bytes of the one before."""
    if len(self.pipeline) >= _PIPELINED:
      raise _bad("too many requests wait on the connection")
    super().on_message_begin()
    if self._reading != "head":
      self._begin("head", self.settings.head_timeout)
    self._head_bytes = 0

  def on_url(self, url: bytes) -> None:
    """Counts the bytes of the target."""
    self._count_head(len(url))
    super().on_url(url)

  def on_header(self, name: bytes, value: bytes) -> None:
    """Counts the bytes of a header; trailers are thrown away."""
    if self._reading == "head":
      self._count_head(len(name) + len(value) + 4)
      super().on_header(name, value)

  def _count_head(self, count: int) -> None:
    self._head_bytes += count
    if self._head_bytes > self.settings.max_head_size:
      raise _head_too_large(self.settings)

  def on_headers_complete(self) -> None:
    """Refuses an ambiguous request, or one that is too large."""
    length = _check_framing(self.headers, self.parser.get_http_version())
    if length > self.settings.max_body_size:
      raise bodies.too_large(self.settings)
    if self.parser.should_upgrade():
      # The parser takes such a request's body for another protocol.
      if any(name == b"transfer-encoding" for name, _ in self.headers):
        raise _bad("a request for an upgrade has no chunked body")
      self._unparsed = length
    self._begin("body", self.settings.body_timeout)
    self._body_bytes = 0
    super().on_headers_complete()
    # The task of the request has not begun.
    self.cycle.transport = _Answer(self.transport)
    if self._close_after_answer:
      self.cycle.keep_alive = False

  def on_body(self, body: bytes) -> None:
    """Counts the bytes of the body."""
    self._body_bytes += len(body)
    if self._body_bytes > self.settings.max_body_size:
      raise bodies.too_large(self.settings)
    super().on_body(body)

  def on_message_complete(self) -> None:
    """Ends the deadline of the body."""
    if self._unparsed:
      return
    self._begin("idle", None)
    super().on_message_complete()

  def on_response_complete(self) -> None:
    """Closes a connection whose client did something wrong meanwhile."""
    for cycle in self._running:
      cycle.transport.flush()
    if self._close_after_answer:
      self.pipeline.clear()
      self._close()
    super().on_response_complete()

  # Writing and closing.

  def pause_writing(self) -> None:
    """Gives the client a deadline to read the answer."""
    super().pause_writing()
    self._set_write_timer(self.settings.write_timeout)

  def resume_writing(self) -> None:
    """The client reads."""
    super().resume_writing()
    self._set_write_timer(None)

  def _set_write_timer(self, seconds: float | None) -> None:
    if self._write_timer is not None:
      self._write_timer.cancel()
      self._write_timer = None
    if seconds is not None:
      self._unwritten = self.transport.get_write_buffer_size()
      self._write_timer = self.loop.call_later(seconds, self._write_timed_out)

  def _write_timed_out(self) -> None:
    """Aborts, unless the client reads as fast as one must send a body."""
    read = self._unwritten - self.transport.get_write_buffer_size()
    if read >= self.settings.max_body_size:
      self._set_write_timer(self.settings.write_timeout)
    else:
      self.transport.abort()

  def shutdown(self) -> None:
    """Closes the connection, after the answers to what the client has sent."""
    self._close_after_answer = True
    if self.cycle is None:
      # What it has sent may not have been read yet.
      if self._reading == "idle":
        self._set_read_timer(_LAST_SECONDS)
    elif self._reading == "idle" and self.cycle.response_complete:
      self._close()
    else:
      self.cycle.keep_alive = False

  def timeout_keep_alive_handler(self) -> None:
    """Closes an idle connection."""
    self._close()

  def _close(self) -> None:
    if not self.transport.is_closing():
      self.transport.close()
    self._abort_later()

  def _abort_later(self) -> None:
    """An answer that is never read must not keep a closed connection."""
    # TLS closes only once the client agrees.
    is_tls = not self.transport.can_write_eof()
    if self.transport.get_write_buffer_size() or is_tls:
      self._set_write_timer(self.settings.write_timeout)

  def _refuse(self, error: ServingError) -> None:
    """Answers a request that is wrong, and closes its connection."""
    if self._reading == "refused":
      return
    # Whether the request that is wrong is the one of the current cycle.
    own = self._reading == "body"
    linger = min(_LINGER_SECONDS, self.settings.body_timeout)
    self._begin("refused", linger)
    waiting = [cycle for cycle, _ in self.pipeline]
    cycle = self.cycle
    if own and cycle is not None and cycle not in waiting:
      if cycle.response_started:
        if not cycle.response_complete:
          self.transport.abort()
          return
        self._close()
        return
      cycle.disconnected = True
      cycle.message_event.set()
    elif cycle is not None and not cycle.response_complete:
      # An earlier request is still to be answered, and none after it.
      self._close_after_answer = True
      for running in self._running:
        running.keep_alive = False
      self._set_read_timer(None)
      self.flow.pause_reading()
      return
    self._write_error(error)

  def _write_error(self, error: ServingError) -> None:
    if self.metrics is not None:
      self.metrics.request("", "", error.status, 0.0, error.code)
    if self.transport.is_closing():
      return
    self.flow.resume_reading()
    content = bodies.error_json(error)
    head = [httptools_impl.STATUS_LINE[error.status]]
    headers = {
      "content-type": "application/json",
      "content-length": str(len(content)),
      "connection": "close",
      **error.headers,
    }
    head += [f"{name}: {x}\r\n".encode() for name, x in headers.items()]
    self.transport.write(b"".join([*head, b"\r\n", content]))
    # Reads on for a moment, so that the answer is not lost to a reset.
    if self.transport.can_write_eof():
      self.transport.write_eof()


class _Answer:
  """A transport that writes the head of an answer with what comes after it.

  uvicorn writes them apart, which costs a call of the system and a packet.
  """

  def __init__(self, transport: asyncio.Transport):
    self._transport = transport
    self._head: bytes | None = None
    self._is_begun = False

  def write(self, data: bytes) -> None:
    """Keeps the head of the answer until the next call."""
    if self._is_begun:
      self.flush(data)
    elif data.startswith(_CONTINUE):
      self._transport.write(data)
    else:
      self._head, self._is_begun = data, True

  def flush(self, data: bytes = b"") -> None:
    """Writes the head, if it is still kept, and data."""
    head, self._head = self._head, None
    if head is not None:
      self._transport.writelines([head, data])
    elif data:
      self._transport.write(data)

  def is_closing(self) -> bool:
    """Whether the connection is closed, or about to be."""
    return self._transport.is_closing()

  def close(self) -> None:
    """Closes the connection once all is written."""
    self.flush()
    self._transport.close()


def make_protocol(
  settings: ServeSettings, metrics: Metrics | None = None
) -> type[Protocol]:
  """The class for `uvicorn.Config(http=..., ws="none")`."""
  return type(
    "BoundProtocol", (Protocol,), {"settings": settings, "metrics": metrics}
  )


async def _run(app: Any, cycle: Any, scope: Any, receive: Any, send: Any):
  """Runs the app; a client that went away is no error of the server's."""
  try:
    await app(scope, receive, send)
  except asyncio.CancelledError:
    if not cycle.disconnected:
      raise


def _check_framing(headers: list[tuple[bytes, bytes]], version: str) -> int:
  """The length of the body that the head gives, 0 without one.

  Raises:
    ServingError: the head says in two ways, or wrongly, where the body ends,
      or has no host.
  """
  found: dict[bytes, bytes] = {}
  for name, value in headers:
    if name in (b"content-length", b"transfer-encoding", b"host"):
      if name in found:
        raise _bad(f"the header {name.decode()} is there twice")
      found[name] = value
  if version not in ("1.0", "1.1"):
    raise _bad("expected HTTP/1.1")
  if version == "1.1" and b"host" not in found:
    raise _bad("the header host is missing")
  coding = found.get(b"transfer-encoding")
  length = found.get(b"content-length")
  if coding is not None:
    if length is not None:
      raise _bad("both content-length and transfer-encoding are given")
    if version == "1.0" or coding.strip().lower() != b"chunked":
      raise _bad("transfer-encoding: expected chunked")
    return 0
  if length is None:
    return 0
  if not _NUMBER.fullmatch(length.strip()):
    raise _bad("content-length: expected a number")
  return int(length)


def _bad(message: str) -> ServingError:
  return ServingError("invalid_request", message)


def _head_too_large(settings: ServeSettings) -> ServingError:
  return ServingError(
    "headers_too_large",
    f"the head of a request has at most {settings.max_head_size} bytes",
  )

"""The processes of a server: start, readiness, draining, workers.

A server that is asked to stop by SIGTERM or SIGINT says that it is not ready,
answers on for `drain_delay`, while load balancers notice, then takes no more
connections, finishes the accepted requests within `drain_timeout`, answers 503
to the rest, and ends with exit code 0. A second signal skips the waiting.
"""

import asyncio
import contextlib
import ctypes
import importlib.util
import logging
import os
import pathlib
import signal
import socket
import ssl
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from bert_jax.serving import versions
from bert_jax.serving.metrics import INSTALL, MULTIPROCESS
from bert_jax.serving.opening import Export, Opener
from bert_jax.serving.settings import ServeSettings
from bert_jax.settings import UserError

_NEEDED = ("httptools", "msgspec", "prometheus_client", "starlette", "uvicorn")
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_BACKLOG = 1024
_USER_ERROR = 2
# How long refused requests may take to be answered at the end.
_LAST_SECONDS = 2.0
# A worker that ends sooner is started again later and later.
_SHORT_LIFE, _LONGEST_PAUSE = 10.0, 10.0
_PR_SET_PDEATHSIG = 1


def run(settings: ServeSettings, export: Export) -> int:
  """Serves until the process is asked to stop.

  Args:
    settings: of the server.
    export: exports a model to ONNX in a process of its own; see
      `opening.Opener`.

  Returns:
    The exit code.

  Raises:
    UserError: something is not installed, an address is in use, or a model
      cannot be loaded.
  """
  for name in _NEEDED:
    if not importlib.util.find_spec(name):
      raise UserError(f"the server needs {name}; run {INSTALL}")
  from bert_jax.serving import logs, tracing

  if settings.trace:
    tracing.check()
  for where in settings.models.values():
    versions.check(where)
  _check_tls(settings)
  logs.start(settings.log_texts)
  with (
    contextlib.ExitStack() as stack,
    tempfile.TemporaryDirectory(prefix="bert_jax-serve-") as name,
  ):
    folder = pathlib.Path(name)
    listeners = [stack.enter_context(_listen(settings.host, settings.port))]
    if settings.admin_port is not None:
      admin = _listen(settings.admin_host, settings.admin_port)
      listeners.append(stack.enter_context(admin))
    for kind, listener in zip(("", "admin "), listeners):
      address, port, *_ = listener.getsockname()
      logs.event(f"{kind}listening", address=address, port=port)
    opener = Opener(settings, export, folder)
    if settings.workers == 1:
      return _run_worker(settings, listeners, opener, None)
    return _supervise(settings, listeners, opener, folder)


def _check_tls(settings: ServeSettings) -> None:
  if settings.tls_certificate is None or settings.tls_key is None:
    return
  try:
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
      settings.tls_certificate, settings.tls_key, password=lambda: b""
    )
  except (OSError, ValueError) as error:
    raise UserError(
      f"--tls_certificate {settings.tls_certificate}, --tls_key"
      f" {settings.tls_key}: cannot be used: {error}"
    ) from error


def _listen(host: str, port: int) -> socket.socket:
  """A socket that listens, and that child processes inherit.

  Raises:
    UserError: the address is in use, or is none of this machine.
  """
  try:
    found = socket.getaddrinfo(
      host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, _, _, _, address = found[0]
    made = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
  except (OSError, OverflowError, UnicodeError) as error:
    raise UserError(f"cannot listen on {host}:{port}: {error}") from error
  made.setblocking(False)
  return made


# One process.


def _run_worker(
  settings: ServeSettings,
  listeners: Sequence[socket.socket],
  opener: Opener,
  shared: pathlib.Path | None,
) -> int:
  from bert_jax.serving import tracing

  if settings.trace:
    tracing.start()
  factory = None
  if importlib.util.find_spec("uvloop"):
    import uvloop

    factory = uvloop.new_event_loop
  with asyncio.Runner(loop_factory=factory) as runner:
    worker = _Worker(settings, listeners, opener, shared)
    return runner.run(worker.run())


class _Worker:
  """The event loop of a process that answers requests."""

  def __init__(
    self,
    settings: ServeSettings,
    listeners: Sequence[socket.socket],
    opener: Opener,
    shared: pathlib.Path | None,
  ):
    self._settings, self._listeners = settings, listeners
    self._opener, self._shared = opener, shared
    self._begin = time.monotonic()
    self._stop, self._hurry = asyncio.Event(), asyncio.Event()

  async def run(self) -> int:
    """Serves; returns the exit code."""
    from bert_jax.serving.logs import event
    from bert_jax.serving.metrics import Metrics
    from bert_jax.serving.registry import Registry

    loop = asyncio.get_running_loop()
    # Before anything is loaded, which takes a while.
    for number in _SIGNALS:
      loop.add_signal_handler(number, self._signalled)
    metrics = Metrics()
    registry = Registry(self._settings, metrics, self._opener, self._shared)
    servers = self._servers(registry, metrics)
    # One of several workers leaves connections to those that have loaded.
    is_alone = self._settings.workers == 1
    if is_alone:
      await _start(servers)
    loading = asyncio.create_task(registry.start())
    stopping = asyncio.create_task(self._stop.wait())
    await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
      # The thread that loads cannot be stopped.
      event("stopped while loading")
      self._opener.stop()
      _exit(0)
    loading.result()
    if not is_alone:
      await _start(servers)
    if registry.ready:
      event("ready", seconds=round(time.monotonic() - self._begin, 3))
    await stopping
    await self._drain(servers, registry)
    event("stopped")
    return 0

  def _signalled(self) -> None:
    (self._hurry if self._stop.is_set() else self._stop).set()

  def _servers(self, registry: Any, metrics: Any) -> list["_Http"]:
    from bert_jax.serving import app, protocol

    settings = self._settings
    made = [app.make_app(registry, metrics, settings)]
    if settings.admin_port is not None:
      made.append(app.make_admin_app(registry, metrics, settings))
    kind = protocol.make_protocol(settings, metrics)
    return [
      _Http(*pair, kind, settings, is_admin=number > 0)
      for number, pair in enumerate(zip(made, self._listeners))
    ]

  async def _drain(self, servers: Sequence["_Http"], registry: Any) -> None:
    from bert_jax.serving.logs import event

    settings = self._settings
    event("draining")
    registry.draining = True
    await self._wait(settings.drain_delay, lambda: False)
    for server in servers:
      await server.close()
    await self._wait(
      settings.drain_timeout, lambda: not any(x.is_busy for x in servers)
    )
    await registry.stop(0.0)
    self._hurry.clear()
    await self._wait(_LAST_SECONDS, lambda: not any(x.is_busy for x in servers))
    for server in servers:
      await server.end()

  async def _wait(self, seconds: float, is_done: Any) -> None:
    """Waits until something is done, for some seconds, or for a signal."""
    end = time.monotonic() + seconds
    while not is_done() and not self._hurry.is_set():
      left = end - time.monotonic()
      if left <= 0:
        return
      with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(self._hurry.wait(), min(left, 0.02))


async def _start(servers: Sequence["_Http"]) -> None:
  for server in servers:
    await server.start()


class _Http:
  """The HTTP server of one listener, by uvicorn's parts."""

  def __init__(
    self,
    app: Any,
    listener: socket.socket,
    protocol: Any,
    settings: ServeSettings,
    is_admin: bool,
  ):
    import uvicorn

    encrypted = {}
    if settings.tls_certificate is not None and not is_admin:
      encrypted = {
        "ssl_certfile": settings.tls_certificate,
        "ssl_keyfile": settings.tls_key,
      }
    config = uvicorn.Config(
      app,
      http=protocol,
      ws="none",
      lifespan="off",
      access_log=False,
      log_config=None,
      server_header=False,
      backlog=_BACKLOG,
      **encrypted,
    )
    config.load()
    self._server = uvicorn.Server(config)
    self._server.lifespan = config.lifespan_class(config)
    self._encryption: dict[str, Any] = {}
    if encrypted:
      self._encryption = {
        "ssl": config.ssl,
        "ssl_handshake_timeout": settings.head_timeout,
        "ssl_shutdown_timeout": _LAST_SECONDS,
      }
    # What is accepted at the very end; the server closes its own.
    self._listener, self._last = listener, listener.dup()
    self._ticks: asyncio.Task | None = None

  async def start(self) -> None:
    """Accepts connections from now on."""
    listening = await asyncio.get_running_loop().create_server(
      self._protocol,
      sock=self._listener,
      backlog=_BACKLOG,
      **self._encryption,
    )
    self._server.servers = [listening]
    self._ticks = asyncio.create_task(self._server.main_loop())

  async def close(self) -> None:
    """Takes no more connections; closes those without a request."""
    server = self._server
    for listener in server.servers:
      listener.close()
    # Connections that the kernel has accepted, and which would be reset.
    loop = asyncio.get_running_loop()
    with self._last, contextlib.suppress(OSError):
      while True:
        connection, _ = self._last.accept()
        connection.setblocking(False)
        await loop.connect_accepted_socket(
          self._protocol, connection, **self._encryption
        )
    for connection in list(server.server_state.connections):
      connection.shutdown()

  def _protocol(self) -> asyncio.Protocol:
    server = self._server
    return server.config.http_protocol_class(
      config=server.config,
      server_state=server.server_state,
      app_state={},
      _loop=asyncio.get_running_loop(),
    )

  @property
  def is_busy(self) -> bool:
    """Whether there are connections or requests."""
    state = self._server.server_state
    return bool(state.connections or state.tasks)

  async def end(self) -> None:
    """Drops what is left."""
    self._server.should_exit = self._server.force_exit = True
    for task in list(self._server.server_state.tasks):
      task.cancel()
    if self._ticks is not None:
      await self._ticks


# Several processes.


def _supervise(
  settings: ServeSettings,
  listeners: Sequence[socket.socket],
  opener: Opener,
  folder: pathlib.Path,
) -> int:
  """Keeps `workers` processes running, until it is asked to stop.

  They accept connections from the same sockets, so that what one does not take
  is taken by another.
  """
  metrics = folder / "metrics"
  metrics.mkdir()
  os.environ[MULTIPROCESS] = str(metrics)
  workers = _Workers(settings, listeners, opener, folder)
  for number in _SIGNALS:
    signal.signal(number, workers.stop)
  for _ in range(settings.workers):
    workers.start()
  return workers.watch(metrics)


class _Workers:
  """The processes of a server."""

  def __init__(
    self,
    settings: ServeSettings,
    listeners: Sequence[socket.socket],
    opener: Opener,
    shared: pathlib.Path,
  ):
    self._arguments = settings, listeners, opener, shared
    self._listeners = listeners
    # When each was started, of `time.monotonic()`, by process id.
    self._started: dict[int, float] = {}
    self._code: int | None = None

  def stop(self, *_: Any) -> None:
    """Asks all to stop; called again, to hurry."""
    if self._code is None:
      self._code = 0
    # Else the kernel would accept connections that nobody takes.
    for listener in self._listeners:
      listener.close()
    for pid in self._started:
      with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)

  def start(self) -> None:
    """Starts one more."""
    with _blocked_signals(), warnings.catch_warnings():
      # Libraries have threads by now, which nothing here waits for.
      warnings.simplefilter("ignore", DeprecationWarning)
      pid = os.fork()
      if pid:
        self._started[pid] = time.monotonic()
        return
    self._work()

  def _work(self) -> None:
    """The whole life of a worker."""
    # A terminal's Ctrl-C is for the parent, which tells its workers.
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    code = 1
    try:
      code = _run_worker(*self._arguments)
    except UserError as error:
      print("error:", " ".join(str(error).split()), file=sys.stderr)
      code = _USER_ERROR
    except BaseException:
      logging.getLogger("bert_jax.serving").exception("the worker failed")
    finally:
      _exit(code)

  def watch(self, metrics: pathlib.Path) -> int:
    """Replaces workers that end, until none is left; the exit code."""
    from bert_jax.serving.logs import event

    pause = 0.0
    while self._started:
      pid, status = os.wait()
      code = os.waitstatus_to_exitcode(status)
      lived = time.monotonic() - self._started.pop(pid)
      for path in metrics.glob(f"gauge_live*_{pid}.db"):
        path.unlink(missing_ok=True)
      if self._code is None and code == _USER_ERROR:
        self.stop()
        self._code = code
      if self._code is not None:
        continue
      event("worker ended", logging.ERROR, pid=pid, code=code)
      pause = 0.0 if lived > _SHORT_LIFE else min(pause + 0.5, _LONGEST_PAUSE)
      time.sleep(pause)
      if self._code is None:
        self.start()
    return self._code or 0


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
  """Keeps signals until the block ends; in a child they then end it."""
  signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
  parent = os.getpid()
  try:
    yield
  finally:
    if os.getpid() != parent:
      for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _exit(code: int) -> None:
  """Ends the process, whatever its threads do."""
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)

"""Clients that send slowly, send too much, or do not read."""

import asyncio
import contextlib
import multiprocessing
import pathlib
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent import futures
from typing import Any, NamedTuple

from rich.table import Table

from benchmarks.serving import load, servers
from benchmarks.serving.servers import Server

_HEAD = load.head(1000)
_MORE = 64 << 20


class Attack(NamedTuple):
  """Slow clients, all alike.

  Attributes:
    clients: their number.
    limit: the seconds after which the server closes them; more by `_SLACK`
      counts as late.
    run: what one client does, until the server closes the connection.
  """

  clients: int
  limit: float
  run: Callable[[socket.socket], Awaitable[None]]


_SLACK = 5.0
_BEFORE_SECONDS = 5.0


async def _read_to_end(sock: socket.socket) -> None:
  """Reads until the server closes the connection."""
  loop = asyncio.get_running_loop()
  while await loop.sock_recv(sock, 65536):
    pass


async def _send(sock: socket.socket, data: bytes) -> None:
  await asyncio.get_running_loop().sock_sendall(sock, data)


async def _trickle(sock: socket.socket, data: bytes) -> None:
  """Sends a byte a second."""
  reading = asyncio.create_task(_read_to_end(sock))
  for byte in data:
    await _send(sock, bytes([byte]))
    done, _ = await asyncio.wait([reading], timeout=1)
    if done:
      break
  await reading


async def _idle(sock: socket.socket) -> None:
  await _read_to_end(sock)


async def _idle_after_answer(sock: socket.socket) -> None:
  await _send(sock, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
  await _read_to_end(sock)


async def _trickled_head(sock: socket.socket) -> None:
  await _trickle(sock, _HEAD)


async def _half_head(sock: socket.socket) -> None:
  await _send(sock, _HEAD[: len(_HEAD) // 2])
  await _read_to_end(sock)


async def _stalled_body(sock: socket.socket) -> None:
  await _send(sock, _HEAD + b'{"model"')
  await _read_to_end(sock)


async def _trickled_body(sock: socket.socket) -> None:
  await _send(sock, _HEAD)
  await _trickle(sock, b" " * 1000)


async def _large_body(sock: socket.socket) -> None:
  await _send(sock, load.head(_MORE))
  for _ in range(_MORE >> 16):
    await _send(sock, bytes(1 << 16))
  await _read_to_end(sock)


async def _unread(sock: socket.socket) -> None:
  """Asks for large answers until they fill all buffers, and reads none."""
  asked = b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n"
  for _ in range(12):
    await _send(sock, asked * 4)
    await asyncio.sleep(0.1)
  while _is_open(sock):
    await asyncio.sleep(0.2)


def _is_open(sock: socket.socket) -> bool:
  """Whether the server's side of a connection belongs to a process.

  The kernel keeps what a client did not read after the server has closed.
  """
  own, server = sock.getsockname()[1], sock.getpeername()[1]
  for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
    _, local, remote, *_, inode = line.split()[:10]
    ports = [int(x.split(":")[1], 16) for x in (local, remote)]
    if ports == [server, own]:
      return inode != "0"
  return False


ATTACKS: Mapping[str, Attack] = {
  "idle, no request": Attack(50, 30, _idle),
  "idle after a request": Attack(50, 30, _idle_after_answer),
  "head at a byte a second": Attack(50, 5, _trickled_head),
  "900 half heads": Attack(900, 5, _half_head),
  "stalled body": Attack(50, 15, _stalled_body),
  "body at a byte a second": Attack(50, 15, _trickled_body),
  "64 MiB body": Attack(8, 15, _large_body),
  "unread answers": Attack(20, 30, _unread),
}


def measure(export: str, quick: bool) -> dict[str, Any]:
  """Runs each attack beside two clients that behave."""
  found = {}
  with servers.running(servers.ours(export, {0})) as server:
    texts = load.short_texts(500)
    asyncio.run(load.closed_loop(server.port, texts, 2, 200))
    for name, attack in ATTACKS.items():
      if quick:
        attack = attack._replace(clients=min(attack.clients, 5))
      found[name] = asyncio.run(_attack(server, attack))
      print(f"{name}: {found[name]}", flush=True)
  return found


async def _attack(server: Server, attack: Attack) -> dict[str, Any]:
  with _behaving(server.port) as others:
    await asyncio.sleep(_BEFORE_SECONDS)
  before = others.result()
  memory = server.memory()
  with _behaving(server.port) as others:
    began = time.perf_counter()
    clients = [
      asyncio.create_task(_client(server.port, attack, number))
      for number in range(attack.clients)
    ]
    peak, _ = await asyncio.gather(
      _peak(server, clients), asyncio.wait(clients)
    )
    left = _BEFORE_SECONDS - (time.perf_counter() - began)
    await asyncio.sleep(max(0, left))
  during = others.result()
  closed = [x.result() for x in clients]
  return {
    "clients": attack.clients,
    "open": closed.count(None),
    "closed_after": max((x for x in closed if x is not None), default=None),
    "limit": attack.limit,
    "memory_growth": peak - memory,
    "p99_before": load.percentile(before[200], 0.99),
    "p99_during": load.percentile(during[200], 0.99),
    "failed_others": sum(len(x) for key, x in during.items() if key != 200),
  }


@contextlib.contextmanager
def _behaving(port: int) -> Iterator[futures.Future[dict[int, list[float]]]]:
  """Two clients that behave, in a process of their own.

  The future has the seconds of their answers, by status.
  """
  context = multiprocessing.get_context("spawn")
  with (
    context.Manager() as manager,
    futures.ProcessPoolExecutor(1, context) as pool,
  ):
    started, stop = manager.Event(), manager.Event()
    found = pool.submit(_behave, port, started, stop)
    started.wait()
    yield found
    stop.set()
    found.result()


def _behave(port: int, started: Any, stop: Any) -> dict[int, list[float]]:
  texts, found = load.short_texts(500), {}
  started.set()
  while not stop.is_set():
    answers = load.closed_loop(port, texts, 2, 100_000, seconds=0.5)
    for answer in asyncio.run(answers):
      found.setdefault(answer.status, []).append(answer.seconds)
  return found


async def _client(port: int, attack: Attack, number: int) -> float | None:
  """The seconds until the server closed it; None if it did not."""
  # Not all in one moment, in which no other client would be accepted.
  await asyncio.sleep(number / 1000)
  with socket.socket() as sock:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    began = time.perf_counter()
    try:
      async with asyncio.timeout(attack.limit + _SLACK):
        await attack.run(sock)
    except TimeoutError:
      return None
    except OSError:
      pass
  return time.perf_counter() - began


async def _peak(server: Server, clients: list[asyncio.Task]) -> int:
  found = 0
  while not all(x.done() for x in clients):
    found = max(found, server.memory())
    await asyncio.sleep(0.2)
  return found


def table(found: Mapping[str, Any]) -> Table:
  """The table of the results."""
  made = Table(
    "clients",
    "closed",
    "the last after, s",
    "limit, s",
    "memory, MB more",
    "others' p99, ms",
    "before, ms",
    "others failed",
  )
  for name, ran in found.items():
    last = ran["closed_after"]
    made.add_row(
      f"{ran['clients']}: {name}",
      f"{ran['clients'] - ran['open']}",
      "-" if last is None else f"{last:.1f}",
      f"{ran['limit']:.0f}",
      f"{ran['memory_growth'] / 1e6:.1f}",
      f"{1000 * ran['p99_during']:.0f}",
      f"{1000 * ran['p99_before']:.0f}",
      str(ran["failed_others"]),
    )
  return made

"""Requests over HTTP/1.1, from clients of this process to 127.0.0.1."""

import asyncio
import json
import random
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks.serving.servers import MODEL

_WORDS = (
  "the cat sat on a mat while rain fell over quiet green hills and people"
  " walked home talking about books they had read in the long winter"
)
_LONGEST = 250


class Answer(NamedTuple):
  """What became of a request.

  Attributes:
    status: of HTTP; 0 if the connection ended without an answer, and -1 if
      there was no connection.
    seconds: from sending to the end of the answer.
    body: of the answer.
    version: of the model, from the header X-Model-Version.
    text: the first text of the request.
  """

  status: int
  seconds: float
  body: bytes = b""
  version: str = ""
  text: str = ""


def short_texts(count: int, seed: int = 0) -> list[str]:
  """Texts of 8 to 14 words."""
  rng = random.Random(seed)
  return [
    " ".join(rng.choices(_WORDS.split(), k=rng.randint(8, 14)))
    for _ in range(count)
  ]


def mixed_texts(count: int, seed: int = 0) -> list[str]:
  """Texts of 1 to 250 words, half of them of fewer than 25."""
  rng, words = random.Random(seed), _WORDS.split()
  counts = [1 + int(rng.lognormvariate(3, 1)) for _ in range(count)]
  return [" ".join(rng.choices(words, k=min(n, _LONGEST))) for n in counts]


def request(texts: Sequence[str]) -> bytes:
  """A request for the vectors of texts, by OpenAI's protocol."""
  body = json.dumps({"model": MODEL, "input": list(texts)}).encode()
  return head(len(body)) + body


def head(length: int) -> bytes:
  """The head of a request for vectors, whose body has this length."""
  return (
    b"POST /v1/embeddings HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % length
  )


def vectors(answer: Answer) -> list[list[float]]:
  """The vectors of an answer."""
  return [x["embedding"] for x in json.loads(answer.body)["data"]]


class Connection:
  """A connection that is kept, and opened again when the server closed it."""

  def __init__(self, port: int, timeout: float = 120):
    self._port, self._timeout = port, timeout
    self._writer: asyncio.StreamWriter | None = None

  async def send(self, text: str) -> Answer:
    """Sends a text; waits for the answer."""
    began = time.perf_counter()
    if self._writer is None:
      try:
        self._reader, self._writer = await asyncio.open_connection(
          "127.0.0.1", self._port
        )
      except OSError:
        return Answer(-1, time.perf_counter() - began, text=text)
    try:
      self._writer.write(request([text]))
      async with asyncio.timeout(self._timeout):
        status, version, body = await self._answer()
    except (OSError, EOFError, TimeoutError):
      self.close()
      return Answer(0, time.perf_counter() - began, text=text)
    return Answer(status, time.perf_counter() - began, body, version, text)

  async def _answer(self) -> tuple[int, str, bytes]:
    assert self._writer is not None
    top = await self._reader.readuntil(b"\r\n\r\n")
    first, *lines = top.decode("latin-1").split("\r\n")
    fields = dict(x.lower().split(": ", 1) for x in lines if x)
    body = await self._reader.readexactly(int(fields.get("content-length", 0)))
    if fields.get("connection") == "close":
      self.close()
    return int(first.split()[1]), fields.get("x-model-version", ""), body

  def close(self) -> None:
    """Closes it."""
    if self._writer is not None:
      self._writer.close()
      self._writer = None


async def closed_loop(
  port: int,
  texts: Sequence[str],
  clients: int,
  count: int,
  seconds: float = 600,
) -> list[Answer]:
  """Clients that each send the next request when the last is answered.

  Args:
    port: of the server.
    texts: one a request, again from the start at the end.
    clients: the number of clients.
    count: the number of requests.
    seconds: after which no more are sent.

  Returns:
    All answers.
  """
  end = time.perf_counter() + seconds
  numbers: Iterator[int] = iter(range(count))
  answers: list[Answer] = []

  async def client() -> None:
    connection = Connection(port)
    for number in numbers:
      if time.perf_counter() > end:
        break
      answers.append(await connection.send(texts[number % len(texts)]))
    connection.close()

  await asyncio.gather(*(client() for _ in range(clients)))
  return answers


async def open_loop(
  port: int,
  texts: Sequence[str],
  rate: float,
  seconds: float,
  connections: int,
) -> list[Answer]:
  """Requests at a rate, whether or not earlier ones are answered.

  A request takes a free connection; one without any waits for it, and its
  time counts from then.
  """
  free: asyncio.Queue[Connection] = asyncio.Queue()
  for _ in range(connections):
    free.put_nowait(Connection(port))
  answers: list[Answer] = []
  tasks = set()

  async def one(connection: Connection, text: str) -> None:
    answers.append(await connection.send(text))
    free.put_nowait(connection)

  began = time.perf_counter()
  for number in range(int(rate * seconds)):
    delay = began + number / rate - time.perf_counter()
    if delay > 0:
      await asyncio.sleep(delay)
    if time.perf_counter() > began + 2 * seconds:
      break
    task = asyncio.create_task(
      one(await free.get(), texts[number % len(texts)])
    )
    tasks.add(task)
    task.add_done_callback(tasks.discard)
  await asyncio.gather(*tasks)
  while not free.empty():
    free.get_nowait().close()
  return answers


def percentile(values: Sequence[float], share: float) -> float:
  """The smallest value that this share of the values does not exceed."""
  ordered = sorted(values)
  return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def times(answers: Sequence[Answer]) -> list[float]:
  """The seconds of the answers with status 200."""
  return [x.seconds for x in answers if x.status == 200]


def statuses(answers: Sequence[Answer]) -> dict[int, int]:
  """The number of answers by status."""
  found: dict[int, int] = {}
  for answer in answers:
    found[answer.status] = found.get(answer.status, 0) + 1
  return dict(sorted(found.items()))

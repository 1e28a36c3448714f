"""Slow clients, limits and ambiguous requests, by raw sockets."""

import concurrent.futures
import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import time

import pytest

from bert_jax.serving.metrics import Metrics
from tests.serving import servers

POST = b"POST /x HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
SMALL = {"max_body_size": 10_000, "max_head_size": 2000, "max_connections": 60}


class App:
  """Answers with the size of the body; notes who went away."""

  def __init__(self):
    self.bodies, self.disconnected = [], 0

  async def __call__(self, scope, receive, send):
    body = b""
    while True:
      message = await receive()
      if message["type"] == "http.disconnect":
        self.disconnected += 1
        return
      body += message.get("body", b"")
      if not message.get("more_body"):
        break
    self.bodies.append((scope["path"], body))
    content = b"x" * 5_000_000 if scope["path"] == "/large" else b"{}"
    length = str(len(content)).encode()
    await send(
      {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-length", length)],
      }
    )
    await send({"type": "http.response.body", "body": content})


@pytest.fixture(scope="module")
def server():
  app, limits = App(), servers.settings(**servers.FAST, **SMALL)
  with servers.running(app, limits, Metrics()) as port:
    yield app, port


def connect(port):
  connection = socket.create_connection(("127.0.0.1", port))
  connection.settimeout(5)
  return connection


def probe(port, *parts, gap=0.0, half_close=False):
  """What the server sends until it closes, and the seconds until then."""
  start, received = time.monotonic(), b""
  with connect(port) as connection:
    try:
      for part in parts:
        connection.sendall(part)
        time.sleep(gap)
      if half_close:
        connection.shutdown(socket.SHUT_WR)
    except OSError:
      pass  # Closed meanwhile.
    try:
      while part := connection.recv(1 << 16):
        received += part
    except ConnectionError:
      pass
  return received, time.monotonic() - start


def statuses(received):
  """The statuses of all answers."""
  return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


def code(received):
  return json.loads(received.rsplit(b"\r\n\r\n", 1)[1])["error"]["code"]


SLOW = {
  "idle": ([], 0, []),
  "stalled head": ([POST], 0, [408]),
  "trickled head": ([b"GET / HTTP/1.1\r\n", *[b"a: b\r\n"] * 12], 0.05, [408]),
  "trickled lines": ([b"\r\n"] * 12, 0.05, [408]),
  "stalled body": ([POST + b"Content-Length: 9\r\n\r\n{"], 0, [408]),
  "trickled body": (
    [POST + b"Content-Length: 99\r\n\r\n", *[b"a"] * 14],
    0.05,
    [408],
  ),
  "trickled chunks": ([CHUNKED, *[b"1\r\na\r\n"] * 14], 0.05, [408]),
  "trickled extension": ([CHUNKED + b"3;", *[b"a"] * 14], 0.05, [408]),
  "stalled trailers": ([CHUNKED + b"1\r\na\r\n0\r\na: b\r\n"], 0, [408]),
  "idle after an answer": ([b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"], 0, [200]),
  "half closed in the head": ([POST], 0, [400]),
}


def test_every_slow_client_is_closed_in_time(server):
  _, port = server

  def one(item):
    name, (parts, gap, expected) = item
    half = name.startswith("half closed")
    return name, probe(port, *parts, gap=gap, half_close=half), expected

  with concurrent.futures.ThreadPoolExecutor(len(SLOW)) as pool:
    for name, (received, seconds), expected in pool.map(one, SLOW.items()):
      assert statuses(received) == expected, name
      assert seconds < 2.5, name


TOO_LARGE = {
  "head": (b"GET / HTTP/1.1\r\nhost: a\r\na: " + b"x" * 4000, 431),
  "whole head": (
    b"GET / HTTP/1.1\r\nhost: a\r\na: " + b"x" * 4000 + b"\r\n\r\n",
    431,
  ),
  "many headers": (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 2000 + b"\r\n", 431),
  "target": (b"GET /" + b"x" * 4000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 431),
  "announced": (POST + b"Content-Length: 20000\r\n\r\n", 413),
  "expected": (
    POST + b"Expect: 100-continue\r\nContent-Length: 20000\r\n\r\n",
    413,
  ),
  "chunked": (CHUNKED + b"3000\r\n" + b"x" * 0x3000 + b"\r\n0\r\n\r\n", 413),
  "framing": (CHUNKED + b"1;" + b"x" * 1_000_000 + b"\r\na\r\n0\r\n\r\n", 413),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_is_too_large_is_refused_at_once(server, name):
  sent, status = TOO_LARGE[name]
  received, _ = probe(server[1], sent)
  assert statuses(received) == [status]


def test_a_huge_body_is_answered_and_not_read(server):
  _, port = server
  with connect(port) as connection:
    connection.sendall(POST + b"Content-Length: 64000000\r\n\r\n")
    sent, received = 0, b""
    with pytest.raises(OSError):
      for _ in range(64):
        connection.sendall(b"x" * 1_000_000)
        sent += 1_000_000
        time.sleep(0.01)
    with contextlib.suppress(ConnectionError):
      received = connection.recv(1 << 16)
  assert sent < 16_000_000
  assert not received or statuses(received) == [413]


AMBIGUOUS = {
  "length and chunked": POST
  + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
  "chunked and length": POST
  + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
  "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
  "a list of lengths": POST + b"Content-Length: 2, 2\r\n\r\n{}",
  "a signed length": POST + b"Content-Length: +2\r\n\r\n{}",
  "a negative length": POST + b"Content-Length: -2\r\n\r\n{}",
  "a huge length": POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
  "a space in a name": POST + b"Content-Length : 2\r\n\r\n{}",
  "another coding": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
  "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n",
  "two codings": POST
  + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
  "a control character": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n",
  "chunked in 1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
  "line feeds alone": b"GET / HTTP/1.1\nHost: a\n\n",
  "one line feed alone": b"GET / HTTP/1.1\r\nHost: a\nb: c\r\n\r\n",
  "carriage return alone": b"GET / HTTP/1.1\r\nHost: a\rb: c\r\n\r\n",
  "folding": b"GET / HTTP/1.1\r\nHost: a\r\nb: c\r\n d\r\n\r\n",
  "folded coding": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n",
  "a space first": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
  "a zero byte": b"GET / HTTP/1.1\r\nHost: a\r\nb: \0\r\n\r\n",
  "no host": b"GET / HTTP/1.1\r\n\r\n",
  "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
  "a chunk of no size": CHUNKED + b"zz\r\n",
  "a negative chunk": CHUNKED + b"-1\r\n",
  "a hexadecimal prefix": CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n",
  "a huge chunk": CHUNKED + b"f" * 17 + b"\r\nabc",
  "line feeds of chunks": CHUNKED + b"3\nabc\n0\n\n",
  "a chunk too long": CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n",
  "a space after a size": CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n",
  "a line feed in an extension": CHUNKED + b"3;\nabc\r\n0\r\n\r\n",
  "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
  "HTTP/0.9": b"GET /\r\n\r\n",
  "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
  "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
  "any bytes": bytes(range(256)),
  "a tunnel": b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
  "a target with a space": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
  "a target that is no ASCII": "GET /é HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_ambiguous_requests_are_refused_and_closed(server, name):
  app, port = server
  before = list(app.bodies)
  # Another request behind it must not be answered.
  behind = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
  received, seconds = probe(port, AMBIGUOUS[name] + behind)
  assert statuses(received) == [400]
  assert code(received) == "invalid_request"
  assert seconds < 2.5
  assert app.bodies == before


def test_trailers_are_not_headers(server):
  app, port = server
  trailers = b"1\r\na\r\n0\r\nAuthorization: x\r\n\r\n"
  received, _ = probe(port, CHUNKED + trailers, half_close=False)
  assert statuses(received) == [200]
  assert app.bodies[-1] == ("/x", b"a")


def test_an_upgrade_is_answered_as_http_1(server):
  app, port = server
  upgrade = (
    b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}"
  )
  received, _ = probe(port, POST + upgrade)
  assert statuses(received) == [200]
  assert app.bodies[-1] == ("/x", b"{}")


def test_a_wrong_request_behind_a_good_one_ends_the_connection(server):
  good = POST + b"Content-Length: 2\r\n\r\n{}"
  received, _ = probe(server[1], good + b"GET / bad\r\n\r\n")
  assert statuses(received) == [200]
  assert b"connection: close" in received
  received, _ = probe(server[1], good * 100)
  assert {*statuses(received)} == {200}


def test_a_client_that_does_not_read_is_dropped(server):
  _, port = server
  with socket.socket() as connection:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(5)
    connection.connect(("127.0.0.1", port))
    connection.sendall(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n")
    time.sleep(1.0)
    read = 0
    try:
      while part := connection.recv(1 << 20):
        read += len(part)
    except ConnectionError:
      pass
  assert read < 5_000_000


def test_connections_above_the_limit_are_answered_503():
  limits = servers.settings(max_connections=3)
  with servers.running(App(), limits, Metrics()) as port:
    held = [connect(port) for _ in range(3)]
    time.sleep(0.1)
    received, _ = probe(port, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert statuses(received) == [503]
    for connection in held:
      connection.close()
    time.sleep(0.1)
    with connect(port) as connection:
      connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
      assert statuses(connection.recv(1000)) == [200]


def test_a_stopping_server_answers_what_was_sent():
  app, limits = App(), servers.settings()
  with servers.running(app, limits, Metrics(), wait=False) as port:
    idle, half = connect(port), connect(port)
    half.sendall(POST)
    time.sleep(0.1)
  # The server was asked to stop, and has not yet ended.
  with half, idle:
    half.sendall(b"Content-Length: 2\r\n\r\n{}")
    received = b""
    while part := half.recv(1 << 16):
      received += part
    assert statuses(received) == [200]
    assert b"connection: close" in received
    assert idle.recv(1 << 16) == b""


def test_tls(tmp_path):
  if not shutil.which("openssl"):
    pytest.skip("there is no openssl")
  files = {"-keyout": tmp_path / "key", "-out": tmp_path / "certificate"}
  subprocess.run(
    [
      *("openssl", "req", "-x509", "-nodes", "-newkey", "ec"),
      *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost"),
      *(str(x) for pair in files.items() for x in pair),
    ],
    check=True,
    capture_output=True,
  )
  config = {
    "ssl_keyfile": files["-keyout"],
    "ssl_certfile": files["-out"],
  }
  limits = servers.settings(**servers.FAST, **SMALL)
  context = ssl.create_default_context(cafile=files["-out"])
  with servers.running(App(), limits, Metrics(), **config) as port:

    def ask(sent):
      received = b""
      with (
        connect(port) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
      ):
        connection.sendall(sent)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
          while part := connection.recv(1 << 16):
            received += part
      return statuses(received)

    assert ask(POST + b"Content-Length: 2\r\n\r\n{}") == [200]
    assert ask(POST + b"Content-Length: 20000\r\n\r\n") == [413]
    assert ask(POST) == [408]
    # Not TLS at all.
    assert probe(port, POST)[1] < 2.5


def test_an_answer_is_one_write_and_expectations_are_met(server):
  _, port = server
  with connect(port) as connection:
    head = POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    connection.sendall(head)
    assert statuses(connection.recv(1000)) == [100]
    connection.sendall(b"{}")
    received = connection.recv(1000)
    assert statuses(received) == [200]
    assert received.endswith(b"\r\n\r\n{}")
    connection.sendall(b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert connection.recv(1000).endswith(b"\r\n\r\n")

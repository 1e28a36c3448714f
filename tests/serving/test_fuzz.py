"""Any body, any bytes: an answer that the description has, and no error."""

import json
import socket

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bert_jax.serving import openapi
from tests.serving import servers
from tests.serving.test_app import ENDPOINTS, GOOD, JSON

BOUNDED = settings(
  max_examples=60,
  deadline=None,
  derandomize=True,
  suppress_health_check=list(HealthCheck),
)
SCALARS = (
  st.none()
  | st.booleans()
  | st.integers(-(2**70), 2**70)
  | st.floats(allow_nan=False, allow_infinity=False)
  | st.text(max_size=20)
  | st.sampled_from(["text", "the array", "x" * 5000, "\0", "\U0010ffff"])
)
VALUES = st.recursive(
  SCALARS,
  lambda inner: (
    st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=8), inner, max_size=3)
  ),
  max_leaves=12,
)


@pytest.fixture(scope="module")
def port():
  names = ("embedding", "classification", "regression")
  served = [servers.FakeServed(name) for name in names]
  limits = {"max_body_size": 20_000, "head_timeout": 0.3, "body_timeout": 0.3}
  with servers.serving(*served, **limits) as (port, _, _):
    yield port


@pytest.fixture(scope="module")
def client(port):
  with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
    yield client


def changed(value, draw):
  """The value with one part of it replaced by any other."""
  if isinstance(value, dict) and value and draw(st.booleans()):
    key = draw(st.sampled_from(sorted(value)))
    return {**value, key: changed(value[key], draw)}
  if isinstance(value, list) and value and draw(st.booleans()):
    return [changed(value[0], draw), *value[1:]]
  if isinstance(value, dict) and draw(st.booleans()):
    return {**value, draw(st.text(max_size=8)): draw(VALUES)}
  return draw(VALUES)


@st.composite
def requests(draw):
  path = draw(st.sampled_from(sorted(GOOD)))
  return path, changed(GOOD[path], draw)


ERROR = {
  "": openapi.Error,
  "tei": openapi.TextEmbeddingsInferenceError,
  "kserve": openapi.KServeError,
}
STYLES = {x.path.partition("{")[0]: x.style for x in ENDPOINTS}


@BOUNDED
@given(request=requests())
def test_any_body_has_an_answer(client, request):
  path, body = request
  content = json.dumps(body).encode("utf-8", "surrogatepass")
  response = client.post(path, content=content, headers=JSON)
  assert response.status_code in (200, 400, 404, 413, 422), response.text
  if response.status_code != 200:
    assert len(response.content) < 1500
    plain = path.partition("?")[0]
    style = next(
      style
      for start, style in sorted(STYLES.items(), reverse=True)
      if plain.startswith(start)
    )
    msgspec.json.decode(response.content, type=ERROR[style])


REQUEST = (
  b"POST /embed?model=embedding HTTP/1.1\r\nHost: a\r\n"
  b"Content-Type: application/json\r\nContent-Length: 22\r\n"
  b"Connection: close\r\n\r\n" + b'{"inputs":"the array"}'
)


@BOUNDED
@given(
  place=st.integers(0, len(REQUEST) - 1),
  length=st.integers(0, 8),
  inserted=st.binary(max_size=12)
  | st.sampled_from(
    [b"\r\n", b"\n", b"\r\n\r\n", b"Transfer-Encoding: chunked"]
  ),
)
def test_any_bytes_end_in_an_answer(port, place, length, inserted):
  sent = REQUEST[:place] + inserted + REQUEST[place + length :]
  received = b""
  with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
    connection.sendall(sent)
    connection.shutdown(socket.SHUT_WR)
    try:
      while part := connection.recv(1 << 16):
        received += part
    except ConnectionResetError:
      pass
  if received:
    assert received.startswith(b"HTTP/1.1 ")
    assert int(received[9:12]) < 500


def test_the_server_still_answers(client):
  test = client.post("/embed", json={"inputs": "the array"})
  assert test.json() == [servers.vector("the array").tolist()]

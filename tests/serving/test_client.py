"""The clients against a server, and against a server that is in trouble."""

import asyncio
import socket
import threading

import numpy as np
import pytest

from bert_jax.serving import client as clients
from bert_jax.serving.client import AsyncClient, Client, RequestError
from tests.commands import python
from tests.serving import servers

TEXTS = ["the array", "is", "in place", "a list", "of names"]


@pytest.fixture(scope="module")
def url():
  served = [servers.FakeServed(x) for x in ("embedding", "classification")]
  served.append(servers.FakeServed("regression"))
  with servers.serving(*served, max_items=2) as (port, _, _):
    yield f"http://127.0.0.1:{port}"


def both(url, method, *arguments, **options):
  """The result of both clients, which must be the same."""
  with Client(url, batch_size=2) as client:
    found = getattr(client, method)(*arguments, **options)

  async def run():
    async with AsyncClient(url, batch_size=2) as client:
      return await getattr(client, method)(*arguments, **options)

  other = asyncio.run(run())
  np.testing.assert_equal(other, found)
  return found


def test_many_texts_are_cut_to_requests(url):
  vectors = both(url, "embed", TEXTS)
  np.testing.assert_array_equal(vectors, [servers.vector(x) for x in TEXTS])
  assert vectors.dtype == np.float32
  assert both(url, "embed", TEXTS[0], dimensions=3).shape == (3,)
  labels = both(url, "predict", TEXTS, model="classification", top_k=1)
  assert len(labels) == 5
  assert labels[4][0] == {"label": "good", "probability": 0.75}
  ranks = both(url, "rerank", "a", TEXTS, model="regression")
  assert sorted(index for index, _ in ranks) == [0, 1, 2, 3, 4]
  assert both(url, "models")[0]["id"] == "embedding"
  assert both(url, "ready")


def errors(url, method, *arguments, **options):
  with Client(url, batch_size=2) as client, pytest.raises(RequestError) as one:
    getattr(client, method)(*arguments, **options)

  async def run():
    async with AsyncClient(url, batch_size=2) as client:
      await getattr(client, method)(*arguments, **options)

  with pytest.raises(RequestError) as other:
    asyncio.run(run())
  assert str(other.value) == str(one.value)
  assert other.value.item == one.value.item
  return one.value


def test_errors_say_which_input_is_wrong(url):
  bad = [*TEXTS[:3], {"pair": "no text"}, TEXTS[4]]
  error = errors(url, "predict", bad, model="classification")
  assert (error.status, error.code, error.item) == (422, "unprocessable", 3)
  assert error.request_id
  found = []
  with Client(url, batch_size=2, model="classification") as client:
    found = client.predict(bad, partial=True)
  assert [isinstance(x, RequestError) for x in found] == [0, 0, 0, 1, 0]
  assert found[3].item == 3
  error = errors(url, "embed", ["\ud800"])
  assert error.status == 400
  assert errors(url, "embed", TEXTS, model="x").status == 404


def test_a_busy_server_is_asked_again(monkeypatch):
  """429, 503 and a broken connection, and then the answer."""
  monkeypatch.setattr(clients, "_MAX_BACKOFF", 0.02)
  replies = [
    b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 0\r\n",
    b"",
    b"HTTP/1.1 503 Service Unavailable\r\n",
    b"HTTP/1.1 200 OK\r\n",
  ]
  asked = []
  with socket.create_server(("127.0.0.1", 0)) as listener:

    def answer():
      for reply in replies:
        connection, _ = listener.accept()
        with connection:
          asked.append(connection.recv(1 << 16))
          if reply:
            end = b"content-length: 7\r\nconnection: close\r\n\r\n[[0.5]]"
            connection.sendall(reply + end)

    thread = threading.Thread(target=answer)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with Client(url, token="t", timeout=9) as client:
      np.testing.assert_array_equal(client.embed("a"), [0.5])
    thread.join(5)
  assert len(asked) == 4
  assert b"authorization: bearer t" in asked[0].lower()
  assert b"x-request-timeout: 9" in asked[0].lower()
  with Client(url, retries=1) as client:
    assert not client.ready()
    with pytest.raises(RequestError, match="no answer"):
      client.embed("a")


def test_the_client_needs_no_jax():
  done = python("import bert_jax.serving.client, sys; print(*sys.modules)")
  assert not {"jax", "flax", "uvicorn", "msgspec"} & {*done.stdout.split()}

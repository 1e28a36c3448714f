"""Every route with a model that answers at once."""

import asyncio
import base64
import gzip
import json
import socket
import time

import httpx
import msgspec
import numpy as np
import pytest

from bert_jax.serving import app as apps
from bert_jax.serving.metrics import Metrics
from bert_jax.serving.routes import (
  embeddings_inference,
  kserve,
  openai,
  predict,
  service,
)
from tests.serving import servers

JSON = {"content-type": "application/json"}
ENDPOINTS = [
  *service.ENDPOINTS,
  *openai.ENDPOINTS,
  *predict.ENDPOINTS,
  *embeddings_inference.ENDPOINTS,
  *kserve.ENDPOINTS,
]


@pytest.fixture(scope="module")
def server():
  names = ("embedding", "classification", "tagging", "regression")
  names += ("question_answering", "generation")
  served = [servers.FakeServed(x) for x in names]
  with servers.serving(*served, max_items=4) as (port, registry, metrics):
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, timeout=30) as client:
      yield client, registry, metrics


@pytest.fixture
def client(server):
  return server[0]


def post(client, path, body, status=200, **arguments):
  response = client.post(path, json=body, **arguments)
  assert response.status_code == status, response.text
  return response.json()


def refused(client, path, body, status=422, **arguments):
  found = post(client, path, body, status, **arguments)
  error = found["error"]
  return error if isinstance(error, dict) else {**found, "message": error}


TEXT = "the array"
VECTOR = servers.vector(TEXT).tolist()
GOOD = {
  "/v1/embeddings": {"input": [TEXT]},
  "/v1/completions": {"prompt": TEXT, "model": "generation"},
  "/v1/classification/predict": {"inputs": [TEXT]},
  "/embed": {"inputs": TEXT},
  "/embed_all": {"inputs": [TEXT]},
  "/embed_sparse": {"inputs": TEXT},
  "/predict?model=classification": {"inputs": TEXT},
  "/rerank?model=regression": {"query": "a", "texts": [TEXT]},
  "/similarity": {"inputs": {"source_sentence": TEXT, "sentences": ["is"]}},
  "/tokenize": {"inputs": TEXT},
  "/decode": {"ids": [5, 6]},
  "/": {"inputs": TEXT},
  "/v2/models/embedding/infer": {
    "inputs": [
      {"name": "text", "shape": [1], "datatype": "BYTES", "data": [TEXT]}
    ]
  },
}


def test_openai(client):
  found = post(client, "/v1/embeddings", {"input": TEXT, "model": "embedding"})
  assert found["data"] == [
    {"object": "embedding", "index": 0, "embedding": VECTOR}
  ]
  assert found["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
  assert found["version"] == "1"
  body = {
    "input": [TEXT, "is"],
    "encoding_format": "base64",
    "dimensions": 2,
  }
  data = post(client, "/v1/embeddings", body)["data"]
  raw = base64.b64decode(data[1]["embedding"])
  np.testing.assert_array_equal(
    np.frombuffer(raw, "<f4"), servers.vector("is")[:2]
  )
  # Token ids are those of the model.
  for ids in ([5, 6], [[5, 6]]):
    data = post(client, "/v1/embeddings", {"input": ids})["data"]
    assert data[0]["embedding"] == VECTOR
  cards = client.get("/v1/models").json()["data"]
  assert [card["id"] for card in cards][:2] == ["embedding", "classification"]
  assert cards[1]["labels"] == {"label": ["good", "bad"]}
  assert client.get("/v1/models/tagging").json()["fields"] == ["words", "text"]
  error = refused(client, "/v1/embeddings", {"input": "a", "model": "x"}, 404)
  assert error["code"] == "not_found"


def test_completions(client):
  body = {"prompt": [TEXT, "is"], "model": "generation", "seed": 2}
  found = post(client, "/v1/completions", body)
  assert found["object"] == "text_completion"
  assert [(x["text"], x["finish_reason"]) for x in found["choices"]] == 2 * [
    ("an array", "stop"),
    ("a list", "length"),
  ]
  assert [x["index"] for x in found["choices"]] == [0, 1, 2, 3]
  error = refused(client, "/v1/completions", {**body, "stream": True})
  assert "stream: expected one prompt" in error["message"]
  error = refused(client, "/v1/completions", {"prompt": TEXT})
  assert "embedding writes no text" in error["message"]
  refused(client, "/v1/completions", {"prompt": " ", "model": "generation"})


def events(client, body, status=200):
  with client.stream("POST", "/v1/completions", json=body) as response:
    assert response.status_code == status, response.read()
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in response.iter_lines() if line]
  assert all(line.startswith("data: ") for line in lines)
  return [line.removeprefix("data: ") for line in lines]


def test_completions_are_streamed(client):
  body = {"prompt": TEXT, "model": "generation", "stream": True}
  *pieces, last = events(client, body)
  assert last == "[DONE]"
  choices = [json.loads(piece)["choices"][0] for piece in pieces]
  assert "".join(choice["text"] for choice in choices) == "an array"
  reasons = [choice["finish_reason"] for choice in choices]
  assert reasons == [None, None, "length"]
  # Before the first piece an error has a status, and after it an event.
  refused(client, "/v1/completions", {**body, "prompt": " "})
  piece, error = map(json.loads, events(client, {**body, "seed": 1}))
  assert piece["choices"][0]["text"] == "an "
  assert error["error"]["code"] == "deadline_exceeded"


def test_every_task_answers(client):
  for name in ("classification", "tagging", "embedding"):
    path = f"/v1/{name}/predict"
    found = post(client, path, {"inputs": [TEXT, {"text": "is"}]})
    assert found["answers"] == 2 * [
      msgspec.to_builtins(servers.ANSWERS[name], enc_hook=np.ndarray.tolist)
    ]
    assert (found["model"], found["version"]) == (name, "1")
  record = {"question": "Where?", "context": "The cat sits on the mat."}
  found = post(client, "/v1/question_answering/predict", {"inputs": record})
  assert found["answers"][0][0]["text"] == "the mat"


def test_one_bad_input_does_not_refuse_the_others(client):
  path, bad = "/v1/classification/predict", {"pair": "no text"}
  body = {"inputs": [TEXT, bad, {"words": ["a"]}, TEXT], "on_error": "item"}
  found = post(client, path, body)
  assert [answer is None for answer in found["answers"]] == [
    False,
    True,
    True,
    False,
  ]
  assert [error["item"] for error in found["errors"]] == [1, 2]
  error = refused(client, path, {**body, "on_error": "request"})
  assert error["item"] == 2
  assert "no field 'words'" in error["message"]


def test_text_embeddings_inference(client):
  assert post(client, "/embed", {"inputs": TEXT}) == [VECTOR]
  assert post(client, "/embed", {"inputs": [5, 6]}) == [VECTOR]
  both = post(client, "/embed", {"inputs": [TEXT, [9]], "dimensions": 3})
  assert [len(vector) for vector in both] == [3, 3]
  (tokens,) = post(client, "/embed_all", {"inputs": TEXT})
  np.testing.assert_array_equal(np.float32(tokens), np.full((3, 4), 0.1, "f4"))
  assert post(client, "/embed_sparse", {"inputs": TEXT}) == [
    [{"index": 1, "value": 1.0}, {"index": 3, "value": 2.5}]
  ]
  labels = [{"score": 0.75, "label": "good"}, {"score": 0.25, "label": "bad"}]
  path = "/predict?model=classification"
  assert post(client, path, {"inputs": TEXT}) == labels
  assert post(client, path, {"inputs": ["a", "pair"]}) == labels
  batch = post(client, path, {"inputs": [["a"], ["a", "pair"]]})
  assert batch == [labels, labels]
  logits = post(client, path, {"inputs": TEXT, "raw_scores": True})
  assert logits[0] == {"score": 2.0, "label": "good"}
  body = {"query": "a", "texts": ["b", "c"], "return_text": True}
  ranks = post(client, "/rerank?model=regression", body)
  assert ranks[0] == {"index": 0, "score": 0.5, "text": "b"}
  body = {"inputs": {"source_sentence": TEXT, "sentences": [TEXT, "is"]}}
  cosines = post(client, "/similarity", body)
  expected = [1.0, servers.vector(TEXT) @ servers.vector("is")]
  np.testing.assert_allclose(cosines, expected, atol=1e-6)
  assert post(client, "/", body) == cosines
  (tokens,) = post(client, "/tokenize", {"inputs": TEXT})
  assert tokens[1] == {
    "id": 5,
    "text": "the",
    "special": False,
    "start": 0,
    "stop": 3,
  }
  body = {"inputs": TEXT, "add_special_tokens": False}
  assert post(client, "/tokenize", body) == [tokens[1:-1]]
  assert post(client, "/decode", {"ids": [[2, 5, 6, 3]]}) == [TEXT]
  body = {"ids": [2, 5, 6, 3], "skip_special_tokens": False}
  assert post(client, "/decode", body) == ["[CLS] the array [SEP]"]
  info = client.get("/info?model=classification").json()
  assert info["model_type"]["classifier"]["id2label"] == {
    "0": "good",
    "1": "bad",
  }
  assert info["max_client_batch_size"] == 4


def test_long_texts_are_cut_where_it_is_asked_for(client):
  text = "list " * 20 + "array " * 40
  body = {"inputs": text, "truncation_direction": "Left"}
  kept = "array " * 30
  assert post(client, "/embed", body) == [servers.vector(kept).tolist()]
  error = refused(client, "/embed", {"inputs": [TEXT, text], "truncate": False})
  assert "has 62 tokens" in error["message"]


def test_kserve(client):
  tensor = {"name": "text", "datatype": "BYTES"}
  body = {"id": "7", "inputs": [{**tensor, "shape": [2], "data": ["a", "is"]}]}
  found = post(client, "/v2/models/embedding/versions/1/infer", body)
  assert found == {
    "id": "7",
    "model_name": "embedding",
    "model_version": "1",
    "outputs": [
      {
        "name": "embedding",
        "datatype": "FP32",
        "shape": [2, 2],
        "data": [0.5, -0.25] * 2,
      }
    ],
  }
  found = post(client, "/v2/models/classification/infer", body)
  (output,) = found["outputs"]
  assert json.loads(output["data"][1])[0]["label"] == "good"
  words = {
    **tensor,
    "name": "words",
    "shape": [1, 2],
    "data": [["the", "array"]],
  }
  post(client, "/v2/models/tagging/infer", {"inputs": [words]})
  for change in ({"shape": [3]}, {"name": "x"}, {"shape": [1, 2]}):
    bad = {"inputs": [{**body["inputs"][0], **change}]}
    refused(client, "/v2/models/classification/infer", bad)
  assert client.get("/v2/models/tagging").json()["inputs"][0] == {
    "name": "words",
    "datatype": "BYTES",
    "shape": [-1, -1],
  }
  assert client.get("/v2/models/tagging/ready").json()["ready"]
  assert client.get("/v2/models/tagging/versions/2").status_code == 404


def test_health_and_readiness(server):
  client, registry, _ = server
  for path in ("/health", "/ready", "/v2/health/live", "/v2/health/ready"):
    assert client.get(path).status_code == 200
  registry.ready, registry.draining = False, True
  try:
    assert client.get("/health").status_code == 200
    assert client.get("/ready").status_code == 503
    found = client.get("/v2/health/ready")
    assert (found.status_code, found.json()) == (503, {"ready": False})
    assert found.headers["connection"] == "close"
  finally:
    registry.ready, registry.draining = True, False
  assert client.get("/metrics").headers["content-type"].startswith("text/plain")


BAD_BODIES = {
  "nothing": (b"", 400),
  "no JSON": (b"{", 400),
  "NaN": (b'{"inputs": NaN}', 400),
  "no UTF-8": (b'{"inputs": "\xff"}', 400),
  "half a surrogate pair": (rb'{"inputs": "\ud800"}', 400),
  "something behind": (b'{"inputs": "a"} {}', 400),
  "a list": (b"[]", 422),
  "an unknown field": (b'{"inputs": "a", "input": 1}', 422),
  "no field": (b"{}", 422),
  "a number": (b'{"inputs": 1}', 422),
  "a large number": (b'{"inputs": "a", "dimensions": 1e999}', 422),
  "a very large number": (b'{"inputs": [1' + b"0" * 4000 + b"]}", 422),
  "none": (b'{"inputs": []}', 422),
  "too many": (b'{"inputs": ["a", "a", "a", "a", "a"]}', 422),
  "nested": (b'{"inputs": ' + b"[" * 100_000, 422),
  "nested objects": (b'{"a":' * 100_000, 422),
  "an unknown token id": (b'{"inputs": [[99]]}', 422),
  "an unknown prompt": (b'{"inputs": "a", "prompt_name": "x"}', 422),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_bodies_are_one_short_sentence(client, name):
  content, status = BAD_BODIES[name]
  response = client.post("/embed", content=content, headers=JSON)
  assert response.status_code == status, response.text
  assert len(response.content) < 600
  assert response.json()["error"]
  assert post(client, "/embed", {"inputs": TEXT}) == [VECTOR]


def test_options_are_checked(client):
  path = "/v1/classification/predict"
  for options in ({"top_k": 0}, {"topk": 1}, {"top_k": [1]}):
    refused(client, path, {"inputs": TEXT, "options": options})
  nested = b'{"inputs": "a", "options": {"top_k": ' + b"[" * 100_000
  found = client.post(path, content=nested, headers=JSON)
  assert found.status_code == 422


def test_zipped_bodies(client):
  body = json.dumps({"inputs": TEXT}).encode()
  headers = {**JSON, "content-encoding": "gzip"}

  def status(content, **changes):
    given = {**headers, **changes}
    return client.post("/embed", content=content, headers=given).status_code

  assert status(gzip.compress(body)) == 200
  assert status(body) == 400
  assert status(gzip.compress(body)[:-4]) == 400
  assert status(gzip.compress(body) * 2) == 400
  bomb = gzip.compress(b" " * 50_000_000 + body)
  assert len(bomb) < 100_000
  assert status(bomb) == 413
  assert status(body, **{"content-encoding": "br"}) == 415


def test_headers(client):
  given = {"x-request-id": "mine-1", "x-request-timeout": "5"}
  response = client.post("/embed", json={"inputs": TEXT}, headers=given)
  assert response.headers["x-request-id"] == "mine-1"
  assert response.headers["x-model-version"] == "1"
  response = client.post(
    "/embed", json={"inputs": TEXT}, headers={"x-request-id": "a b"}
  )
  assert response.headers["x-request-id"] != "a b"
  for wrong in ("0", "-1", "nan", "inf", "soon"):
    headers = {"x-request-timeout": wrong}
    refused(client, "/embed", {"inputs": TEXT}, 400, headers=headers)
  for kind in ("text/plain", "application/json; charset=latin-1", ""):
    response = client.post(
      "/embed", content=b"{}", headers={**JSON, "content-type": kind}
    )
    assert response.status_code == 415
  refused(client, "/embed?modle=x", {"inputs": TEXT}, 400)


def test_unknown_paths_and_methods(client):
  assert client.get("/no/such/path").json()["error"]["code"] == "not_found"
  response = client.delete("/")
  assert response.status_code == 405
  assert response.headers["allow"] == "GET, POST"
  assert client.head("/health").status_code == 200


def test_the_clients_that_go_away_are_not_answered(server):
  client, registry, _ = server
  served = registry.get("embedding")
  served.delay, before = 5.0, served.cancelled
  try:
    body = json.dumps({"inputs": TEXT}).encode()
    with socket.create_connection(
      (client.base_url.host, client.base_url.port)
    ) as s:
      s.sendall(
        b"POST /embed HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
      )
      time.sleep(0.2)
    end = time.monotonic() + 3
    while served.cancelled == before and time.monotonic() < end:
      time.sleep(0.01)
    assert served.cancelled == before + 1
  finally:
    served.delay = 0.0


def test_answers_have_the_types_of_the_description(client):
  by_path = {(x.method, x.path): x for x in ENDPOINTS}
  for path, body in GOOD.items():
    plain = path.partition("?")[0]
    plain = plain.replace("/classification/", "/{model}/")
    plain = plain.replace("/embedding/", "/{model}/")
    endpoint = by_path["POST", plain]
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    msgspec.json.decode(response.content, type=endpoint.answer)


def test_admin():
  served = servers.FakeServed("embedding")
  registry, limits = servers.FakeRegistry(served), servers.settings()
  app = apps.make_admin_app(registry, Metrics(), limits)

  async def run():
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
      transport=transport, base_url="http://admin"
    ) as client:
      for path, body in {
        "/models/embedding/roll_back": {"version": "1"},
        "/models/embedding/canary": {"version": "1", "weight": 0.25},
        "/log_level": {"level": "info"},
      }.items():
        response = await client.post(path, json=body)
        assert response.status_code == 200, response.text
      assert (await client.post("/models/embedding/reload")).is_success
      found = await client.post("/models/x/reload")
      assert found.status_code == 404
      found = await client.post(
        "/models/embedding/canary", json={"version": "1", "weight": 2}
      )
      assert found.status_code == 422
      return (await client.get("/models")).json()

  assert asyncio.run(run()) == {"models": {"embedding": {"version": "1"}}}
  assert registry.calls == [
    ("roll_back", "embedding", "1"),
    ("canary", "embedding", 0.25),
    ("reload", "embedding"),
  ]

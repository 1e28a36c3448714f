"""Tokens and rates."""

import hashlib
import os

import httpx
import pytest

from bert_jax.serving import access
from bert_jax.serving.access import Access
from bert_jax.serving.errors import ServingError
from bert_jax.settings import UserError
from tests.serving import servers


def line(name, token, options=""):
  digest = hashlib.sha256(token.encode()).hexdigest()
  return f"{name} {digest} {options}\n"


@pytest.fixture
def clock(monkeypatch):
  now = [100.0]
  monkeypatch.setattr(access.time, "monotonic", lambda: now[0])
  return now


def make(path, text, **changes):
  path.write_text(text)
  return Access(servers.settings(tokens=str(path), **changes))


def test_only_known_tokens_pass(tmp_path):
  path = tmp_path / "tokens"
  checked = make(path, "# mine\n" + line("ann", "a1") + line("bob", "b2"))
  assert checked.check(b"Bearer a1", "") == "ann"
  assert checked.check(b"bearer  b2 ", "") == "bob"
  digest = hashlib.sha256(b"a1").hexdigest().encode()
  for wrong in (None, b"", b"Bearer", b"Bearer x", b"Basic a1", digest):
    with pytest.raises(ServingError) as caught:
      checked.check(wrong, "")
    assert caught.value.code == "unauthorized"
    assert caught.value.headers == {"WWW-Authenticate": "Bearer"}


def test_tokens_change_without_a_restart(tmp_path, clock, caplog):
  path = tmp_path / "tokens"
  checked = make(path, line("ann", "a1"))
  path.write_text(line("bob", "b2"))
  clock[0] += 1
  assert checked.check(b"Bearer b2", "") == "bob"
  with pytest.raises(ServingError):
    checked.check(b"Bearer a1", "")
  # A file that is wrong leaves those that were good.
  path.write_text("secret-token-and-no-hash\n")
  os.utime(path, (1, 1))
  clock[0] += 1
  assert checked.check(b"Bearer b2", "") == "bob"
  assert "line 1" in caplog.text
  assert "secret" not in caplog.text


@pytest.mark.parametrize(
  "text",
  [
    "ann\n",
    "ann abc\n",
    line("ann", "a") + line("ann", "b"),
    line("ann", "a", "rate=x"),
    line("ann", "a", "rate=0"),
    line("ann", "a", "speed=1"),
  ],
)
def test_wrong_files_are_one_line(tmp_path, text):
  with pytest.raises(UserError, match="expected NAME SHA256"):
    make(tmp_path / "tokens", text)


def test_a_missing_file_is_one_line(tmp_path):
  with pytest.raises(UserError, match="No such file"):
    Access(servers.settings(tokens=str(tmp_path / "none")))


def test_each_token_has_its_rate(tmp_path, clock):
  text = line("ann", "a1", "rate=2") + line("bob", "b2")
  checked = make(tmp_path / "tokens", text, rate_limit=10, rate_burst=3)
  for _ in range(3):
    checked.check(b"Bearer a1", "")
  with pytest.raises(ServingError) as caught:
    checked.check(b"Bearer a1", "")
  assert caught.value.code == "rate_limited"
  assert caught.value.headers == {"Retry-After": "1"}
  checked.check(b"Bearer b2", "")
  clock[0] += 0.5
  checked.check(b"Bearer a1", "")
  with pytest.raises(ServingError):
    checked.check(b"Bearer a1", "")


def test_without_tokens_each_address_has_its_rate(clock):
  checked = Access(servers.settings(rate_limit=1, rate_burst=1))
  assert checked.check(None, "1.1.1.1") == ""
  checked.check(None, "1.1.1.2")
  with pytest.raises(ServingError):
    checked.check(None, "1.1.1.1")


def test_what_is_open(tmp_path):
  path = tmp_path / "tokens"
  path.write_text(line("ann", "a1"))
  served = servers.FakeServed("embedding")
  limits = {"tokens": str(path), "open_metrics": False}
  with (
    servers.serving(served, **limits) as (port, _, _),
    httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
  ):
    for path in ("/", "/docs", "/health", "/ready", "/v2/health/live"):
      assert client.get(path).status_code == 200
    for path in ("/metrics", "/v1/models", "/info", "/v2/models/embedding"):
      assert client.get(path).status_code == 401
    # A request without a token is refused before its body is read.
    response = client.post("/embed", content=b"{" * 1000)
    assert response.status_code == 401
    assert response.json()["error_type"] == "Validation"
    headers = {"authorization": "Bearer a1"}
    assert client.get("/metrics", headers=headers).status_code == 200
    body = {"inputs": "the array"}
    response = client.post("/embed", json=body, headers=headers)
    assert response.status_code == 200
    described = client.get("/openapi.json").json()
    assert "securitySchemes" in described["components"]


def test_other_origins_are_refused_unless_asked_for():
  served = servers.FakeServed("embedding")
  origin = {
    "origin": "https://page.example",
    "access-control-request-method": "POST",
    "access-control-request-headers": "content-type",
  }
  for allowed in ((), ("https://page.example",)):
    with servers.serving(served, cors_origins=allowed) as (port, _, _):
      url = f"http://127.0.0.1:{port}/embed"
      headers = httpx.options(url, headers=origin).headers
      found = headers.get("access-control-allow-origin")
      assert found == (allowed[0] if allowed else None)

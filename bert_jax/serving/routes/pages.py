"""The pages for people, and the description of the API for programs."""

import base64
import hashlib
import importlib.resources
import re
from collections.abc import Sequence

import msgspec

from bert_jax.serving import openapi
from bert_jax.serving.endpoints import Call, Endpoint, Raw

_TAG = "Service"
_INLINE = re.compile(rb"<(script|style)>(.*?)</\1>", re.DOTALL)


def make(listed: Sequence[Endpoint], needs_token: bool) -> list[Endpoint]:
  """The endpoints of the pages, and the description of all endpoints.

  Args:
    listed: the others.
    needs_token: whether these need a bearer token.
  """
  made = [_page("/", "index.html"), _page("/docs", "docs.html")]

  async def description(call: Call) -> Raw:
    del call
    return Raw(content)

  made.append(
    Endpoint(
      "GET",
      "/openapi.json",
      description,
      "This description",
      _TAG,
      answer=dict,
      is_open=True,
    )
  )
  found = openapi.make([*listed, *made], needs_token, "bert_jax")
  content = msgspec.json.encode(found)
  return made


def _page(path: str, name: str) -> Endpoint:
  folder = importlib.resources.files("bert_jax.serving") / "page"
  content = (folder / name).read_bytes()
  headers = {
    "content-security-policy": _policy(content),
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cache-control": "no-cache",
  }
  raw = Raw(content, "text/html; charset=utf-8", headers=headers)

  async def show(call: Call) -> Raw:
    del call
    return raw

  return Endpoint(
    "GET",
    path,
    show,
    "A page for people",
    _TAG,
    answer="text/html",
    is_open=True,
  )


def _policy(content: bytes) -> str:
  """Allows the page's own script and style, and requests to this server."""
  hashes: dict[bytes, list[str]] = {b"script": [], b"style": []}
  for kind, text in _INLINE.findall(content):
    digest = base64.b64encode(hashlib.sha256(text).digest()).decode()
    hashes[kind].append(f"'sha256-{digest}'")
  return (
    "default-src 'none'; connect-src 'self'; img-src data:;"
    f" script-src {' '.join(hashes[b'script'])};"
    f" style-src {' '.join(hashes[b'style'])};"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
  )

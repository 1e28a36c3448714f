"""The bodies of requests and answers: reading, JSON, and errors as JSON."""

import re
import zlib
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from bert_jax.serving.errors import ServingError
from bert_jax.serving.settings import ServeSettings

# Bodies that all requests of a server may hold while they are read.
_MAX_HELD = 128 << 20
# Of a message from a library that may quote what it was given.
_MAX_MESSAGE = 300
_LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class DisconnectedError(Exception):
  """The client went away before its request was complete."""


class Reader:
  """Reads bodies within the limits; what all of them hold is bounded too."""

  def __init__(self, settings: ServeSettings):
    self._settings = settings
    self._held = 0

  async def read(self, headers: Mapping[bytes, bytes], receive: Any) -> bytes:
    """The body of a request, without its content coding.

    Args:
      headers: of the request, names in lower case.
      receive: of ASGI.

    Raises:
      ServingError: it is too large, also unzipped, or of an unknown coding.
      DisconnectedError: the client went away.
    """
    coding = headers.get(b"content-encoding", b"identity").strip().lower()
    if coding not in (b"gzip", b"identity"):
      raise ServingError(
        "unsupported_media_type", "content-encoding: expected gzip or none"
      )
    parts, size = [], 0
    try:
      while True:
        message = await receive()
        if message["type"] == "http.disconnect":
          raise DisconnectedError
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        self._held += len(part)
        if size > self._settings.max_body_size:
          raise too_large(self._settings)
        if self._held > _MAX_HELD:
          raise ServingError(
            "unavailable",
            "too many bytes of requests are being read",
            retry_after=1,
          )
        if not message.get("more_body"):
          break
    finally:
      self._held -= size
    body = b"".join(parts)
    return self._unzip(body) if coding == b"gzip" else body

  def _unzip(self, body: bytes) -> bytes:
    unzip = zlib.decompressobj(wbits=31)
    limit = self._settings.max_body_size
    try:
      found = unzip.decompress(body, limit + 1)
    except zlib.error:
      raise _bad("the body is not valid gzip") from None
    if len(found) > limit:
      raise too_large(self._settings, " unzipped")
    if not unzip.eof or unzip.unused_data:
      raise _bad("the body is not one whole gzip stream")
    return found


def check_json(headers: Mapping[bytes, bytes]) -> None:
  """Refuses a body that does not say that it is JSON.

  Any page on the web may send other kinds to a server on this machine without
  being asked.

  Raises:
    ServingError: the content type is another.
  """
  given = headers.get(b"content-type", b"").decode("latin-1").lower()
  kind, *parameters = (part.strip() for part in given.split(";"))
  charsets = [p for p in parameters if p.startswith("charset=")]
  if kind != "application/json" or any(
    x.removeprefix("charset=").strip('"') not in ("utf-8", "utf8")
    for x in charsets
  ):
    raise ServingError(
      "unsupported_media_type",
      "expected the header content-type: application/json",
    )


def decode(decoder: msgspec.json.Decoder, body: bytes) -> Any:
  """A body of JSON as the decoder's type.

  Raises:
    ServingError: 400 where it is not JSON, 422 where it is of another form.
  """
  try:
    return decoder.decode(body)
  except msgspec.ValidationError as error:
    raise ServingError("unprocessable", shorten(str(error))) from None
  except RecursionError:
    raise _bad("the JSON is nested too deeply") from None
  except UnicodeDecodeError:
    raise _bad("the body is not UTF-8") from None
  except msgspec.DecodeError as error:
    if not body.strip():
      raise _bad("the body is empty; expected JSON") from None
    reason = str(error).removeprefix("JSON is malformed: ")
    if _LONE_SURROGATE.search(body) and "malformed" not in str(error):
      reason = "half of a surrogate pair is no text"
    raise _bad(f"the body is not valid JSON: {shorten(reason)}") from None


def shorten(message: str, length: int = _MAX_MESSAGE) -> str:
  """A message that may quote what a client sent, on one short line."""
  message = " ".join(message.split())
  return message if len(message) <= length else f"{message[: length - 3]}..."


def to_json(value: Any) -> Any:
  """NumPy values for msgspec, which knows dataclasses itself.

  Raises:
    NotImplementedError: it is something else.
  """
  if isinstance(value, np.ndarray | np.generic):
    return value.tolist()
  raise NotImplementedError(f"no JSON for {type(value).__name__}")


encode = msgspec.json.Encoder(enc_hook=to_json).encode


def error_json(
  error: ServingError, style: str = "", request_id: str | None = None
) -> bytes:
  """An error as clients of a protocol expect it.

  Args:
    error: what went wrong.
    style: "tei" for `{"error": "...", "error_type": "..."}`, as in
      text-embeddings-inference; "kserve" for `{"error": "..."}`; by default
      that of OpenAI, `{"error": {"message": "...", "type": "...", ...}}`.
    request_id: of the request.
  """
  if style == "tei":
    return encode(
      {
        "error": error.message,
        "error_type": _TEI_TYPES.get(error.status, "Validation"),
        "code": error.code,
      }
    )
  if style == "kserve":
    return encode({"error": error.message, "code": error.code})
  kind = "server_error" if error.status >= 500 else "invalid_request_error"
  content = {
    "message": error.message,
    "type": _OPENAI_TYPES.get(error.status, kind),
    "code": error.code,
    "param": None,
  }
  if error.item is not None:
    content["item"] = error.item
  if request_id is not None:
    content["request_id"] = request_id
  return encode({"error": content})


_OPENAI_TYPES = {
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  429: "rate_limit_error",
}
_TEI_TYPES = {
  429: "Overloaded",
  500: "Backend",
  503: "Unhealthy",
  504: "Backend",
}


def too_large(settings: ServeSettings, how: str = "") -> ServingError:
  """What a body above the limit is answered with."""
  return ServingError(
    "too_large",
    f"the body has at most {settings.max_body_size} bytes{how}",
  )


def _bad(message: str) -> ServingError:
  return ServingError("invalid_request", message)

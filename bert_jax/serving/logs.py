"""The log of a server: one line of JSON for each event and request."""

import contextlib
import logging
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

import msgspec

# Successes of these are not logged: they come every few seconds.
_PROBES = ("/health", "/ready", "/metrics")
_LOGGER = logging.getLogger("bert_jax.serving")
# The attributes that every record has; others came by `extra`.
_OWN = {*vars(logging.makeLogRecord({})), "message", "asctime", "color_message"}

_encode = msgspec.json.Encoder(enc_hook=str).encode
_lock = threading.Lock()
_log_texts = False


def start(log_texts: bool = False) -> None:
  """Makes the log of this process lines of JSON on stderr.

  Args:
    log_texts: whether the lines of requests have their texts.
  """
  global _log_texts
  _log_texts = log_texts
  logging.root.handlers[:] = [_Handler()]
  logging.root.setLevel(logging.WARNING)
  _LOGGER.setLevel(logging.INFO)
  logging.getLogger("uvicorn").setLevel(logging.WARNING)
  warnings.showwarning = lambda message, *_, **__: _LOGGER.warning(
    "%s", " ".join(str(message).split())
  )


def event(message: str, level: int = logging.INFO, **fields: Any) -> None:
  """Logs something that happened to the server."""
  _LOGGER.log(level, message, extra=fields)


def request(
  request_id: str,
  route: str,
  model: str,
  version: str,
  status: int,
  seconds: float,
  *,
  items: int = 0,
  tokens: int = 0,
  code: str = "",
  texts: Sequence[Any] | None = None,
) -> None:
  """Logs a request that was answered.

  Args:
    request_id: that the answer has too.
    route: the path, with names in place of what varies in it.
    model: its name.
    version: of the model.
    status: of HTTP.
    seconds: that it took.
    items: texts or records.
    tokens: that were computed, without padding.
    code: of the error.
    texts: what was asked; logged only where `start` was told so.
  """
  is_probe = status == 200 and route in _PROBES
  if is_probe or not _LOGGER.isEnabledFor(logging.INFO):
    return
  fields: dict[str, Any] = {
    "request_id": request_id,
    "route": route,
    "model": model,
    "version": version,
    "status": status,
    "milliseconds": round(1000 * seconds, 3),
    "items": items,
    "tokens": tokens,
  }
  if code:
    fields["code"] = code
  if _log_texts and texts is not None:
    fields["texts"] = texts
  _write("info", "request", fields)


def _write(level: str, message: str, fields: dict[str, Any]) -> None:
  line = {"time": time.time(), "level": level, "event": message, **fields}
  try:
    made = _encode(line)
  except (TypeError, ValueError):
    # Such as a lone surrogate in a text.
    made = _encode({**line, **{k: ascii(v) for k, v in fields.items()}})
  # The reader of the log may have ended; the server goes on.
  with _lock, contextlib.suppress(OSError, ValueError):
    sys.stderr.write(made.decode() + "\n")
    sys.stderr.flush()


class _Handler(logging.Handler):
  """Writes records of `logging` as lines of JSON."""

  def emit(self, record: logging.LogRecord) -> None:
    """Writes a record."""
    fields = {k: v for k, v in vars(record).items() if k not in _OWN}
    if record.exc_info and record.exc_info[0] is not None:
      kind, error, frames = record.exc_info
      fields["error"] = kind.__name__
      fields["traceback"] = "".join(traceback.format_tb(frames))
      # It may repeat a text of the request.
      if _log_texts:
        fields["reason"] = str(error)
    _write(record.levelname.lower(), record.getMessage(), fields)

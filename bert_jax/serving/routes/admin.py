"""The administration, on a port of its own."""

import logging
from typing import Annotated, Any, Literal

import msgspec

from bert_jax.serving.endpoints import Call, Endpoint
from bert_jax.serving.routes import service

_TAG = "Administration"


class RollBackRequest(msgspec.Struct, forbid_unknown_fields=True):
  """The version to go back to; by default the one before."""

  version: str | None = None


class CanaryRequest(msgspec.Struct, forbid_unknown_fields=True):
  """The share of requests, from 0 to 1, that a version answers."""

  version: str
  weight: Annotated[float, msgspec.Meta(ge=0, le=1)]


class LogLevelRequest(msgspec.Struct, forbid_unknown_fields=True):
  """The level of the log."""

  level: Literal["debug", "info", "warning", "error"]


class Done(msgspec.Struct):
  """The models after the change."""

  models: dict[str, Any]


async def _status(call: Call) -> Done:
  return Done(dict(call.registry.status()))


async def _roll_back(call: Call) -> Done:
  await call.registry.roll_back(call.path["model"], call.body.version)
  return await _status(call)


async def _canary(call: Call) -> Done:
  body = call.body
  await call.registry.set_canary(call.path["model"], body.version, body.weight)
  return await _status(call)


async def _reload(call: Call) -> Done:
  await call.registry.reload(call.path["model"])
  return await _status(call)


async def _log_level(call: Call) -> Done:
  logging.getLogger("bert_jax.serving").setLevel(call.body.level.upper())
  return await _status(call)


def _post(path: str, run: Any, summary: str, body: Any = None) -> Endpoint:
  return Endpoint("POST", path, run, summary, _TAG, body, Done)


ENDPOINTS = (
  *service.ENDPOINTS,
  Endpoint("GET", "/models", _status, "Models and versions", _TAG, None, Done),
  _post("/models/{model}/roll_back", _roll_back, "Go back", RollBackRequest),
  _post("/models/{model}/canary", _canary, "Share of a version", CanaryRequest),
  _post("/models/{model}/reload", _reload, "Look for new versions"),
  _post("/log_level", _log_level, "Level of the log", LogLevelRequest),
)

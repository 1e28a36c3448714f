"""Health, readiness and metrics."""

from bert_jax.serving.endpoints import Call, Endpoint, Raw
from bert_jax.serving.errors import ServingError

_TAG = "Service"


async def _health(call: Call) -> Raw:
  """Nothing is computed for it."""
  if not call.registry.live:
    raise ServingError("unavailable", "the engine is stuck")
  return Raw()


async def _ready(call: Call) -> Raw:
  if not call.registry.ready:
    raise ServingError("unavailable", "the server is not ready", retry_after=1)
  return Raw()


async def _metrics(call: Call) -> Raw:
  return Raw(call.metrics.render(), "text/plain; version=0.0.4; charset=utf-8")


ENDPOINTS = (
  Endpoint(
    "GET", "/health", _health, "Whether the server lives", _TAG, is_open=True
  ),
  Endpoint(
    "GET",
    "/ready",
    _ready,
    "Whether the server takes requests",
    _TAG,
    is_open=True,
  ),
  Endpoint(
    "GET",
    "/metrics",
    _metrics,
    "Metrics for Prometheus",
    _TAG,
    answer="text/plain",
    is_open=True,
  ),
)

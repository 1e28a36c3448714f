"""Traces by OpenTelemetry, where they are asked for."""

import contextlib
import time
from collections.abc import Sequence
from typing import Any

from bert_jax.settings import UserError

INSTALL = 'pip install "bert_jax[otel]"'

_NO_SPAN = contextlib.nullcontext()
_tracer: Any = None


def check() -> None:
  """Refuses where OpenTelemetry is not installed.

  Raises:
    UserError: it is not.
  """
  try:
    from opentelemetry.exporter.otlp.proto.http import trace_exporter  # noqa: F401
    from opentelemetry.sdk import trace  # noqa: F401
  except ImportError as error:
    raise UserError(f"--trace needs OpenTelemetry; run {INSTALL}") from error


def start() -> None:
  """Sends traces from now on, as OpenTelemetry's environment variables say.

  Of these, `OTEL_EXPORTER_OTLP_ENDPOINT` is where to, and `OTEL_SERVICE_NAME`
  the name of the service.
  """
  from opentelemetry.exporter.otlp.proto.http import trace_exporter
  from opentelemetry.sdk.trace import TracerProvider, export

  provider = TracerProvider()
  provider.add_span_processor(
    export.BatchSpanProcessor(trace_exporter.OTLPSpanExporter())
  )
  use(provider)


def use(provider: Any) -> None:
  """Gives spans to a `TracerProvider`; None ends that."""
  global _tracer
  _tracer = provider and provider.get_tracer("bert_jax.serving")


def span(name: str, **attributes: Any) -> Any:
  """A context manager around what belongs to a span of this name."""
  if _tracer is None:
    return _NO_SPAN
  return _tracer.start_as_current_span(name, attributes=attributes)


def current() -> Any:
  """The context of the current span, for `record_batch`; None without one."""
  if _tracer is None:
    return None
  from opentelemetry import trace

  return trace.get_current_span().get_span_context()


def record_batch(began: int, rows: Sequence[Any], tokens: int) -> None:
  """A span of a batch that ends now, linked to its requests' spans.

  Args:
    began: when, in nanoseconds of `time.time_ns()`.
    rows: of the batch.
    tokens: of the batch, with padding.
  """
  if _tracer is None:
    return
  from opentelemetry import trace

  contexts = {id(row.job): row.job.context for row in rows}
  made = _tracer.start_span(
    "batch",
    context=trace.set_span_in_context(trace.INVALID_SPAN),
    links=[trace.Link(x) for x in contexts.values() if x is not None],
    start_time=began,
    attributes={"rows": len(rows), "tokens": tokens},
  )
  made.end(time.time_ns())

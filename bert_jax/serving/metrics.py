"""The metrics of a server, for Prometheus."""

import functools
import os
from collections.abc import Iterator
from typing import Any

from bert_jax.serving.errors import STATUS
from bert_jax.settings import UserError

INSTALL = 'pip install "bert_jax[serve]"'
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable of `prometheus-client` for several processes."""

_SECONDS = (
  *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
  *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


class Metrics:
  """All metrics of a server; their names begin with `bert_jax_`.

  With several worker processes, each writes its values into files of one
  folder, and any of them renders the sums. The folder must be in the
  environment before `prometheus_client` is imported.
  """

  def __init__(self):
    """Registers the metrics.

    Raises:
      UserError: `prometheus-client` is not installed.
    """
    try:
      import prometheus_client as client
    except ImportError as error:
      raise UserError(
        f"the metrics need prometheus-client; run {INSTALL}"
      ) from error
    # A further line for each counter, which says when it was made.
    client.disable_created_metrics()
    self._client = client
    self._folder = os.environ.get(MULTIPROCESS)
    self._own = client.CollectorRegistry()
    gauge = functools.partial(
      client.Gauge, registry=self._own, multiprocess_mode="livesum"
    )
    counter = functools.partial(client.Counter, registry=self._own)

    def histogram(
      name: str, meaning: str, labels: tuple[str, ...], buckets: Any
    ) -> Any:
      return client.Histogram(
        f"bert_jax_{name}", meaning, labels, registry=self._own, buckets=buckets
      )

    self._requests = counter(
      "bert_jax_requests",
      "Answered requests.",
      ("model", "route", "status"),
    )
    self._failures = counter(
      "bert_jax_request_failures",
      "Requests that were refused or failed, by reason.",
      ("model", "reason"),
    )
    self._duration = histogram(
      "request_duration_seconds",
      "From the head of a request to its answer.",
      ("model", "route"),
      _SECONDS,
    )
    self._tokenization = histogram(
      "tokenization_duration_seconds",
      "Tokenization of a request.",
      ("model",),
      _SECONDS,
    )
    self._queue = histogram(
      "queue_duration_seconds",
      "From the arrival of a row in the queue to its batch.",
      ("model",),
      _SECONDS,
    )
    self._inference = histogram(
      "inference_duration_seconds",
      "Computation of a batch.",
      ("model",),
      _SECONDS,
    )
    self._queue_rows = gauge(
      "bert_jax_queue_rows", "Rows that wait.", ("model",)
    )
    self._queue_tokens = gauge(
      "bert_jax_queue_tokens", "Tokens that wait.", ("model",)
    )
    self._batch_rows = histogram(
      "batch_rows", "Rows of a batch.", ("model",), _ROWS
    )
    self._batch_tokens = histogram(
      "batch_tokens", "Tokens of a batch, with padding.", ("model",), _TOKENS
    )
    self._tokens = counter(
      "bert_jax_tokens",
      "Tokens that were computed: of the input, and padding.",
      ("model", "kind"),
    )
    self._info = gauge(
      "bert_jax_model_info",
      "Processes that serve a version of a model.",
      ("model", "version", "engine"),
    )
    self._updates = counter(
      "bert_jax_model_updates",
      "Versions that were loaded, refused or rolled back.",
      ("model", "result"),
    )
    self._connections = gauge("bert_jax_connections", "Open connections.")
    if not self._folder:
      client.ProcessCollector(registry=self._own)
    self._known: dict[tuple[str, str, int], tuple[Any, Any]] = {}

  def request(
    self, route: str, model: str, status: int, seconds: float, code: str = ""
  ) -> None:
    """Counts a request.

    Args:
      route: the path, with names in place of what varies in it.
      model: its name; empty where the request names none.
      status: of HTTP.
      seconds: from the request to its answer.
      code: of the error, see `errors.STATUS`.
    """
    key = (route, model, status)
    if (found := self._known.get(key)) is None:
      found = self._known[key] = (
        self._requests.labels(model, route, str(status)),
        self._duration.labels(model, route),
      )
    found[0].inc()
    found[1].observe(seconds)
    if status >= 400:
      reason = code or _REASONS.get(status, "other")
      self._failures.labels(model, reason).inc()

  def connected(self, change: int) -> None:
    """Counts a connection that was opened, 1, or closed, -1."""
    self._connections.inc(change)

  def of_model(self, model: str) -> "ModelMetrics":
    """What the engine measures for one model."""
    for result in ("loaded", "refused", "rolled_back"):
      # From 0: Prometheus sees no increase in a counter that begins with 1.
      self._updates.labels(model, result)
    return ModelMetrics(
      self._tokenization.labels(model).observe,
      self._queue.labels(model).observe,
      self._inference.labels(model).observe,
      self._queue_rows.labels(model).inc,
      self._queue_tokens.labels(model).inc,
      self._batch_rows.labels(model).observe,
      self._batch_tokens.labels(model).observe,
      self._tokens.labels(model, "input").inc,
      self._tokens.labels(model, "padding").inc,
    )

  def serves(self, model: str, version: str, engine: str, on: bool) -> None:
    """Notes that a version of a model takes requests, or no more."""
    labels = (model, version, engine)
    self._info.labels(*labels).set(int(on))
    if not on and not self._folder:
      self._info.remove(*labels)

  def updated(self, model: str, result: str) -> None:
    """Counts a version that was `loaded`, `refused` or `rolled_back`."""
    self._updates.labels(model, result).inc()

  def render(self) -> bytes:
    """The metrics in Prometheus' text format; of all workers together."""
    registry = self._own
    if self._folder:
      from prometheus_client import multiprocess

      registry = self._client.CollectorRegistry()
      multiprocess.MultiProcessCollector(registry, self._folder)
      registry.register(_Processes(self._client, self._folder))
    return self._client.generate_latest(registry)


class ModelMetrics:
  """Functions that note what the engine measures for one model."""

  __slots__ = (
    "batch_rows",
    "batch_tokens",
    "inference",
    "input_tokens",
    "padding_tokens",
    "queue",
    "queue_rows",
    "queue_tokens",
    "tokenization",
  )

  def __init__(self, *functions: Any):
    """Takes a function for each name, in the order of `Metrics.of_model`."""
    (
      self.tokenization,
      self.queue,
      self.inference,
      self.queue_rows,
      self.queue_tokens,
      self.batch_rows,
      self.batch_tokens,
      self.input_tokens,
      self.padding_tokens,
    ) = functions


_REASONS = {status: code for code, status in STATUS.items()}
_REASONS[499] = "client_closed"


class _Processes:
  """The sums of `process_*` over the workers that live."""

  def __init__(self, client: Any, folder: str):
    self._client, self._folder = client, folder

  def collect(self) -> Iterator[Any]:
    """The families, each with one sample."""
    pids = {
      int(name.rsplit("_", 1)[1].removesuffix(".db"))
      for name in os.listdir(self._folder)
      if name.startswith("gauge_livesum_")
    }
    totals: dict[str, Any] = {}
    for pid in sorted(pids):
      collector = self._client.ProcessCollector(
        pid=lambda pid=pid: pid, registry=None
      )
      for family in collector.collect():
        if family.name not in totals:
          totals[family.name] = family
          continue
        (total,), (sample,) = totals[family.name].samples, family.samples
        combine = min if family.name.endswith("start_time_seconds") else sum
        value = combine((total.value, sample.value))
        totals[family.name].samples = [total._replace(value=value)]
    yield from totals.values()

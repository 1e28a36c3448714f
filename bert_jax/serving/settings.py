"""The settings of a server: models, addresses and limits."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from bert_jax import settings
from bert_jax.models.generation import GenerationConfig

ENGINES = ("auto", "onnx", "openvino", "jax")


@dataclasses.dataclass(frozen=True)
class ServeSettings:
  """What a server serves, where, and within which limits.

  Sizes are in bytes and times in seconds.

  Attributes:
    models: the place of each model by its name: what `bert_jax.load` accepts,
      an export, or a folder of versions.
    engine: what computes: `onnx` (ONNX Runtime) or `openvino` on CPUs, `jax`
      on GPUs and TPUs; `auto` takes `jax` where there is a GPU or TPU, and
      else `onnx`, but for models that write or have early exits. A model that
      is no export is exported when it is loaded.
    host: the address to listen on.
    port: the port to listen on; 0 takes a free one.
    admin_host: the address of the admin routes.
    admin_port: the port of the admin routes; None for no admin routes.
    workers: the number of processes that share the port, each with a copy of
      the models.
    threads: the number of threads that compute, for each process; None shares
      the processor's cores among the processes.
    tokens: a file with the SHA-256 checksums of the bearer tokens that are
      accepted; None accepts every request. It is read again when it changes.
    tls_certificate: a file with the certificate chain, PEM; None for plain
      HTTP.
    tls_key: a file with the private key of the certificate, PEM.
    cors_origins: the origins whose pages may call the server from a browser.
    log_texts: whether the log of requests has their texts.
    open_metrics: whether `/metrics` needs no token.
    rate_limit: requests per second for each token, or for each address where
      there are no tokens; None for no limit.
    rate_burst: requests that a client may send at once within its rate limit.
    max_body_size: of the body of a request, also when decompressed.
    max_head_size: of the request line and the headers.
    head_timeout: until the head of a request has arrived.
    body_timeout: until the body of a request has arrived.
    write_timeout: until a client has read the response.
    idle_timeout: until a connection without a request is closed.
    max_connections: open connections.
    max_items: texts or records in a request.
    max_characters: in a text.
    request_timeout: until a request is answered, unless it asks for less.
    queue_timeout: in the queue, after which a request is refused.
    max_queue_rows: rows that wait, beyond which a request is refused.
    max_queue_tokens: tokens that wait, beyond which a request is refused.
    max_batch_tokens: tokens of a batch, with padding; None takes 16,384 for
      the engine `jax` and 2,048 for the others, which larger batches would not
      make faster.
    max_batch_rows: rows of a batch.
    max_wait: how long a row waits for others while the engine is idle; 0 adds
      no latency, and batches form while the engine is busy.
    drain_delay: how long a server that is asked to stop still accepts
      requests, while it says that it is not ready.
    drain_timeout: how long the accepted requests may take after that.
    poll_interval: between two looks at a folder of versions.
    canary_weight: the share of requests that go to a new version first; 0
      gives it all requests at once.
    allow_changed_outputs: whether a new version may have another task, other
      labels or another width of vectors.
    generation: how models write that do, options of `GenerationConfig` such as
      num_beams=4; a request may set the seed alone, as other options need
      programs that take seconds to compile.
    trace: whether traces are sent by OpenTelemetry, as its environment
      variables say.
  """

  models: Mapping[str, str]
  engine: str = "auto"
  host: str = "127.0.0.1"
  port: int = 8080
  admin_host: str = "127.0.0.1"
  admin_port: int | None = None
  workers: int = 1
  threads: int | None = None
  tokens: str | None = None
  tls_certificate: str | None = None
  tls_key: str | None = None
  cors_origins: tuple[str, ...] = ()
  log_texts: bool = False
  open_metrics: bool = True
  rate_limit: float | None = None
  rate_burst: int = 20
  max_body_size: int = 2_000_000
  max_head_size: int = 32_768
  head_timeout: float = 5.0
  body_timeout: float = 15.0
  write_timeout: float = 15.0
  idle_timeout: float = 30.0
  max_connections: int = 1000
  max_items: int = 32
  max_characters: int = 1_000_000
  request_timeout: float = 60.0
  queue_timeout: float = 10.0
  max_queue_rows: int = 512
  max_queue_tokens: int = 262_144
  max_batch_tokens: int | None = None
  max_batch_rows: int = 64
  max_wait: float = 0.0
  drain_delay: float = 5.0
  drain_timeout: float = 20.0
  poll_interval: float = 1.0
  canary_weight: float = 0.0
  allow_changed_outputs: bool = False
  generation: tuple[str, ...] = ()
  trace: bool = False

  def __post_init__(self):
    if not self.models:
      raise ValueError("models: expected at least one")
    if self.engine not in ENGINES:
      raise ValueError(
        f"engine: expected one of {', '.join(ENGINES)}, got {self.engine!r}"
      )
    sizes = [
      "max_body_size",
      "max_head_size",
      "max_connections",
      "max_items",
      "max_characters",
      "max_queue_rows",
      "max_queue_tokens",
      "max_batch_rows",
      "rate_burst",
      "workers",
    ]
    times = [
      "head_timeout",
      "body_timeout",
      "write_timeout",
      "idle_timeout",
      "request_timeout",
      "queue_timeout",
      "poll_interval",
    ]
    delays = ["max_wait", "drain_delay", "drain_timeout"]
    for names, optional in (
      (sizes, "threads"),
      (sizes, "max_batch_tokens"),
      (times, "rate_limit"),
    ):
      if getattr(self, optional) is not None:
        names.append(optional)
    settings.check(self, "at least 1", lambda x: x >= 1, *sizes)
    settings.check(self, "more than 0", lambda x: 0 < x < 1e9, *times)
    settings.check(self, "at least 0", lambda x: 0 <= x < 1e9, *delays)
    settings.check(self, "from 0 to 1", lambda x: 0 <= x <= 1, "canary_weight")
    ports = ["port"] + ["admin_port"] * (self.admin_port is not None)
    settings.check(self, "0 to 65535", lambda x: 0 <= x <= 65535, *ports)
    if (self.tls_certificate is None) != (self.tls_key is None):
      raise ValueError("tls_certificate and tls_key go together")
    if self.workers > 1 and self.engine == "jax":
      raise ValueError("workers: the engine jax has one process, got several")
    settings.replace(GenerationConfig(), self.generation_options, "generation")

  @property
  def generation_options(self) -> dict[str, Any]:
    """The options that `generation` gives, by name."""
    found: dict[str, Any] = {}
    for given in self.generation:
      name, _, value = given.partition("=")
      try:
        found[name] = json.loads(value.lower())
      except ValueError:
        raise ValueError(
          f"generation: expected NAME=VALUE, such as num_beams=4, got {given!r}"
        ) from None
    return found

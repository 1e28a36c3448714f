"""Serves an export on many machines, by Ray Serve.

  pip install "ray[serve]" "bert_jax[export]"
  serve run launch.deploy.ray_serve:embedder model=/models/minilm/1

  curl 127.0.0.1:8000 -H 'Content-Type: application/json' \
    -d '{"texts": ["a text", "another"]}'

The folder must have the same path on every node. Ray routes requests, adds
replicas and restarts them; ONNX Runtime runs the export, without JAX.
"""

import asyncio
from collections.abc import Sequence

import pydantic
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

from bert_jax import exported

_THREADS = 2
_MAX_TEXTS = 32


class Arguments(pydantic.BaseModel):
  """The arguments of the application."""

  model: str


@serve.deployment(
  ray_actor_options={"num_cpus": _THREADS},
  max_ongoing_requests=64,
  max_queued_requests=512,
  autoscaling_config={
    "min_replicas": 1,
    "max_replicas": 8,
    "target_ongoing_requests": 16,
  },
)
class Embedder:
  """One replica: a vector for each text."""

  def __init__(self, where: str):
    """Loads the export."""
    self._model = exported.load(where, threads=_THREADS)

  @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.002)
  async def embed(self, texts: list[str]) -> Sequence[list[float]]:
    """The vectors of texts of several requests."""
    vectors = await asyncio.to_thread(self._model.embed, texts)
    return [vector.tolist() for vector in vectors]

  async def __call__(self, request: Request) -> JSONResponse:
    """Answers a request."""
    try:
      texts = (await request.json())["texts"]
    except (ValueError, TypeError, KeyError):
      texts = None
    if (
      not isinstance(texts, list)
      or not 0 < len(texts) <= _MAX_TEXTS
      or not all(isinstance(text, str) and text for text in texts)
    ):
      wanted = f"expected {{'texts': [...]}} with 1 to {_MAX_TEXTS} texts"
      return JSONResponse({"error": wanted}, 422)
    vectors = await asyncio.gather(*map(self.embed, texts))
    return JSONResponse({"vectors": vectors})


def embedder(arguments: Arguments) -> serve.Application:
  """The application: `serve run` calls this with the arguments."""
  return Embedder.bind(arguments.model)

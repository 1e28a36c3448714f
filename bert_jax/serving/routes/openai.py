"""OpenAI's embeddings and models, for clients that speak that."""

import base64
from typing import Annotated, Literal

import msgspec
import numpy as np

from bert_jax.serving.endpoints import Call, Endpoint
from bert_jax.serving.errors import ServingError
from bert_jax.serving.routes import inputs
from bert_jax.serving.routes.inputs import Card, Ids, Positive, card

_TAG = "OpenAI"


class EmbeddingsRequest(msgspec.Struct, forbid_unknown_fields=True):
  """Texts to embed.

  Attributes:
    input: a text, a list of texts, or token ids of the model's vocabulary.
    model: the model's name; by default the first one.
    encoding_format: `base64` is of little-endian float32.
    dimensions: of the vectors; they are cut, and normalized again.
    user: not used.
  """

  input: (
    str
    | Annotated[
      list[str | Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | Ids],
      msgspec.Meta(min_length=1),
    ]
  )
  model: str | None = None
  encoding_format: Literal["float", "base64"] = "float"
  dimensions: Positive | None = None
  user: str | None = None


class Embedding(msgspec.Struct):
  """The vector of one text."""

  index: int
  embedding: list[float] | str
  object: Literal["embedding"] = "embedding"


class Usage(msgspec.Struct):
  """Tokens, special ones included."""

  prompt_tokens: int
  total_tokens: int


class EmbeddingsAnswer(msgspec.Struct):
  """The vectors of all texts, normalized, in their order."""

  data: list[Embedding]
  model: str
  version: str
  usage: Usage
  object: Literal["list"] = "list"


class ModelsAnswer(msgspec.Struct):
  """All models."""

  data: list[Card]
  object: Literal["list"] = "list"


async def _embeddings(call: Call) -> EmbeddingsAnswer:
  body: EmbeddingsRequest = call.body
  served = call.find(body.model)
  texts, _ = inputs.texts(call, served, body.input)
  vectors = await served.embed(
    texts,
    normalize=True,
    truncate_dim=body.dimensions,
    deadline=call.deadline,
    usage=call.usage,
  )
  data = []
  for index, vector in enumerate(vectors):
    if body.encoding_format == "base64":
      raw = np.asarray(vector, "<f4").tobytes()
      data.append(Embedding(index, base64.b64encode(raw).decode()))
    else:
      data.append(Embedding(index, inputs.floats(vector)))
  tokens = call.usage.tokens
  return EmbeddingsAnswer(
    data, served.name, served.version, Usage(tokens, tokens)
  )


async def _models(call: Call) -> ModelsAnswer:
  found = []
  for name in call.registry.names():
    try:
      found.append(card(call.registry.get(name)))
    except ServingError:
      continue  # Not ready yet.
  return ModelsAnswer(found)


async def _model(call: Call) -> Card:
  return card(call.find(call.path["model"]))


ENDPOINTS = (
  Endpoint(
    "POST",
    "/v1/embeddings",
    _embeddings,
    "Vectors of texts",
    _TAG,
    EmbeddingsRequest,
    EmbeddingsAnswer,
  ),
  Endpoint(
    "GET", "/v1/models", _models, "All models", _TAG, answer=ModelsAnswer
  ),
  Endpoint(
    "GET",
    "/v1/models/{model}",
    _model,
    "One model",
    _TAG,
    answer=Card,
    query={"version": "The version; by default the current one."},
  ),
)

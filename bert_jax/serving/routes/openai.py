"""OpenAI's embeddings, completions and models, for clients that speak that."""

import base64
import contextlib
import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from bert_jax.serving import bodies
from bert_jax.serving.endpoints import Call, Endpoint, Streamed
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


class CompletionsRequest(msgspec.Struct, forbid_unknown_fields=True):
  """Sources of texts to write.

  Attributes:
    prompt: a text, or a list of texts.
    model: the model's name; by default the first one.
    stream: whether pieces of the text come while it is written, as server-sent
      events with a `Completions` each and at last `[DONE]`; of one prompt.
    seed: of sampling.
    user: not used.
  """

  prompt: str | Annotated[list[str], msgspec.Meta(min_length=1)]
  model: str | None = None
  stream: bool = False
  seed: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
  user: str | None = None


class Completion(msgspec.Struct):
  """A text, or a piece of one.

  Attributes:
    text: the text.
    index: the number of the text.
    finish_reason: `length` of a text that reached the longest length; null
      while there may be more.
    logprobs: always null.
  """

  text: str
  index: int
  finish_reason: Literal["stop", "length"] | None = None
  logprobs: None = None


class Completions(msgspec.Struct):
  """The texts of all prompts, in their order; several of each may follow."""

  id: str
  created: int
  model: str
  version: str
  choices: list[Completion]
  object: Literal["text_completion"] = "text_completion"


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


async def _completions(call: Call) -> Completions | Streamed:
  body: CompletionsRequest = call.body
  served = call.find(body.model)
  prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
  call.take(prompts, "prompt")
  arguments: dict[str, Any] = {
    "options": {} if body.seed is None else {"seed": body.seed},
    "deadline": call.deadline,
    "usage": call.usage,
  }
  if not served.model.task.writes:
    raise ServingError(
      "unprocessable", f"the model {served.name} writes no text"
    )
  created = int(time.time())

  def made(*choices: Completion) -> Completions:
    return Completions(
      call.request_id, created, served.name, served.version, [*choices]
    )

  if not body.stream:
    answers = await served.answer(prompts, **arguments)
    texts = [text for answer in answers for text in answer]
    return made(
      *(
        Completion(x.text, index, "stop" if x.finished else "length")
        for index, x in enumerate(texts)
      )
    )
  if len(prompts) > 1:
    raise ServingError("unprocessable", "stream: expected one prompt")
  pieces = served.stream(prompts[0], **arguments)
  # Errors before the first piece have a status of their own.
  first = await anext(pieces, "")

  async def events() -> AsyncGenerator[bytes]:
    last = first
    async with contextlib.aclosing(pieces):
      if first is not None:
        yield bodies.encode(made(Completion(first, 0)))
      async for last in pieces:
        if last is not None:
          yield bodies.encode(made(Completion(last, 0)))
    reason = "length" if last is None else "stop"
    yield bodies.encode(made(Completion("", 0, reason)))
    yield b"[DONE]"

  return Streamed(events())


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
    "POST",
    "/v1/completions",
    _completions,
    "Texts that are written",
    _TAG,
    CompletionsRequest,
    Completions,
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

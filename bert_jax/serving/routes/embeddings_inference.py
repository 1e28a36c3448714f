"""The routes of text-embeddings-inference, and of Hugging Face's client.

Fields, defaults and answers are those of its version 1.9. A server of several
models takes their names as the parameter `model` after the path.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bert_jax.serving.endpoints import VERSION, Call, Endpoint, Raw
from bert_jax.serving.errors import ServingError
from bert_jax.serving.routes import inputs as shared
from bert_jax.serving.routes.embeddings_inference_types import (
  ClassifyRequest,
  DecodeRequest,
  EmbedAllRequest,
  EmbedRequest,
  EmbedSparseRequest,
  HubRequest,
  Info,
  Prediction,
  Rank,
  RerankRequest,
  SimilarityInput,
  SimilarityParameters,
  SimilarityRequest,
  SimpleToken,
  SparseValue,
  TokenizeRequest,
  Truncated,
)
from bert_jax.serving.served import Served
from bert_jax.tasks.targets.class_label import ClassLabel
from bert_jax.tasks.targets.labels import LabelledTarget
from bert_jax.tasks.targets.multi_label import MultiLabel
from bert_jax.tasks.targets.values import Values

_TAG = "text-embeddings-inference"
_QUERY = {
  "model": "The model's name; by default the first one.",
  "version": "Its version; by default the current one.",
}
_RIGHT = ("Right", "right")


async def _embed(call: Call) -> list[list[float]]:
  return await _vectors(call, call.find(), call.body)


async def _vectors(
  call: Call, served: Served, body: EmbedRequest | HubRequest
) -> list[list[float]]:
  texts, _ = shared.texts(call, served, body.inputs)
  texts = await _fit(served, texts, body)
  vectors = await served.embed(
    texts,
    prompt_name=body.prompt_name,
    normalize=body.normalize,
    truncate_dim=body.dimensions,
    deadline=call.deadline,
    usage=call.usage,
  )
  return [shared.floats(vector) for vector in vectors]


async def _fit(
  served: Served,
  texts: list[str],
  body: EmbedRequest | HubRequest | SimilarityParameters,
) -> list[str]:
  """Texts to embed, cut as the request says."""
  if body.truncate is not False and body.truncation_direction in _RIGHT:
    return texts
  prefix = shared.prompt(served, body.prompt_name)
  return await shared.fit(
    served, texts, body.truncate, body.truncation_direction, prefix
  )


async def _outputs(call: Call, name: str) -> list[np.ndarray]:
  """An extra output of each text."""
  served, body = call.find(), call.body
  texts, _ = shared.texts(call, served, body.inputs)
  if body.prompt_name is not None:
    # These outputs are of texts alone.
    prefix = shared.prompt(served, body.prompt_name)
    texts = [prefix + text for text in texts]
  texts = await shared.fit(
    served, texts, body.truncate, body.truncation_direction
  )
  if name not in served.model.forward.outputs:
    raise ServingError(
      "unprocessable", f"the model {served.name} has no {name}"
    )
  return await served.outputs(
    [{"text": text} for text in texts],
    name,
    deadline=call.deadline,
    usage=call.usage,
  )


async def _embed_all(call: Call) -> Raw:
  found = await _outputs(call, "token_embeddings")
  return Raw(await shared.encode_large(found))


async def _embed_sparse(call: Call) -> list[list[SparseValue]]:
  made = []
  for vector in await _outputs(call, "sparse_embedding"):
    index = np.flatnonzero(vector)
    values = shared.floats(vector[index])
    made.append(list(map(SparseValue, index.tolist(), values)))
  return made


async def _predict(call: Call) -> Any:
  body: ClassifyRequest = call.body
  served = call.find()
  given, single = body.inputs, True
  if isinstance(given, str):
    given = [[given]]
  elif isinstance(given[0], str):
    given = [given]
  else:
    single = False
  call.take(given)
  records = []
  for item, texts in enumerate(given):
    if not (
      isinstance(texts, list)
      and len(texts) <= 2
      and all(isinstance(text, str) for text in texts)
    ):
      raise ServingError(
        "unprocessable",
        "inputs: expected a text, a pair of two texts, or a list of lists of"
        " one or two texts",
        item=item,
      )
    records.append(dict(zip(("text", "pair"), texts)))
  found = await _classify(call, served, records, body, body.raw_scores)
  return found[0] if single else found


async def _classify(
  call: Call,
  served: Served,
  records: list[dict[str, str]],
  body: Truncated | HubRequest,
  raw: bool,
) -> list[list[Prediction]]:
  """The labels of each record, the greatest score first."""
  task = served.model.task
  target = _classifier(served)
  if target is None:
    raise ServingError(
      "unprocessable",
      f"the task {task.name} of the model {served.name} is no classification;"
      f" see /v1/{served.name}/predict",
    )
  await _fit_records(served, records, body)
  if raw:
    (head,) = task.head_names.values()
    logits = await served.outputs(
      records, head, deadline=call.deadline, usage=call.usage
    )
    made = [
      list(map(Prediction, shared.floats(scores), target.names))
      for scores in logits
    ]
  else:
    answers = await served.answer(
      records, deadline=call.deadline, usage=call.usage
    )
    made = [[_prediction(label) for label in answer] for answer in answers]
  for labels in made:
    labels.sort(key=lambda found: -found.score)
  return made


def _prediction(found: Any) -> Prediction:
  """A label with its probability, or a number with its value."""
  score = getattr(found, "probability", None)
  if score is None:
    score = getattr(found, "value", None)
  if score is None:
    raise ServingError(
      "unprocessable", "the model's answers are no labels of a text"
    )
  return Prediction(float(score), found.label)


def _classifier(served: Served) -> LabelledTarget | None:
  """What gives scores to a text or a pair, if that is the model's task."""
  targets = [*served.model.task.targets.values()]
  if len(targets) == 1 and isinstance(
    targets[0], ClassLabel | MultiLabel | Values
  ):
    return targets[0]
  return None


async def _fit_records(
  served: Served, records: list[dict[str, str]], body: Truncated | HubRequest
) -> None:
  """Cuts texts, or refuses what is too long, as the request says."""
  single = [record for record in records if "pair" not in record]
  texts = await shared.fit(
    served,
    [record["text"] for record in single],
    body.truncate,
    body.truncation_direction,
  )
  for record, text in zip(single, texts):
    record["text"] = text
  pairs = [record for record in records if "pair" in record]
  from_left = body.truncation_direction.lower() == "left"
  if not pairs or (body.truncate is not False and not from_left):
    return
  encodings = await served.tokenize(
    [x["text"] for x in pairs], [x["pair"] for x in pairs]
  )
  for encoding in encodings:
    if len(encoding.ids) > served.max_length:
      raise ServingError(
        "unprocessable",
        f"a pair has {len(encoding.ids)} tokens; the model takes at most"
        f" {served.max_length}, and a pair is cut at its end only",
      )


async def _rerank(call: Call) -> list[Rank]:
  body: RerankRequest = call.body
  served = call.find()
  records = [{"text": body.query, "pair": text} for text in body.texts]
  call.take(records, "texts")
  target = _classifier(served)
  if target is None or len(target.names) != 1:
    raise ServingError(
      "unprocessable",
      f"the model {served.name} gives no single score for a pair of texts; for"
      " an embedding model use /similarity",
    )
  await _fit_records(served, records, body)
  options: Mapping[str, Any] = {}
  if isinstance(target, Values) and not (
    any(target.means) or {*target.scales} != {1.0}
  ):
    options = {"activation": "identity" if body.raw_scores else "sigmoid"}
  answers = await served.answer(
    records, options=options, deadline=call.deadline, usage=call.usage
  )
  ranks = [
    Rank(
      index,
      _prediction(answer[0]).score,
      body.texts[index] if body.return_text else None,
    )
    for index, answer in enumerate(answers)
  ]
  return sorted(ranks, key=lambda rank: -rank.score)


async def _similarity(call: Call) -> list[float]:
  body: SimilarityRequest = call.body
  parameters = body.parameters or SimilarityParameters()
  return await _cosines(call, call.find(), body.inputs, parameters)


async def _cosines(
  call: Call,
  served: Served,
  given: SimilarityInput,
  parameters: SimilarityParameters | HubRequest,
) -> list[float]:
  texts = [given.source_sentence, *given.sentences]
  call.take(texts, "sentences")
  texts = await _fit(served, texts, parameters)
  vectors = np.stack(
    await served.embed(
      texts,
      prompt_name=parameters.prompt_name,
      normalize=True,
      deadline=call.deadline,
      usage=call.usage,
    )
  )
  return shared.floats(vectors[1:] @ vectors[0])


async def _tokenize(call: Call) -> list[list[SimpleToken]]:
  body: TokenizeRequest = call.body
  served = call.find()
  prefix = ""
  if body.prompt_name is not None:
    prefix = shared.prompt(served, body.prompt_name)
  given = [body.inputs] if isinstance(body.inputs, str) else body.inputs
  call.take(given)
  tokenizer = served.model.task.tokenizer
  texts, made = [prefix + text for text in given], []
  for text, encoding in zip(texts, await served.tokenize(texts)):
    tokens = []
    for id, (start, stop) in zip(encoding.ids, encoding.offsets):
      # Special tokens of the layout cover no characters.
      if stop > start:
        tokens.append(SimpleToken(id, text[start:stop], False, start, stop))
      elif body.add_special_tokens:
        tokens.append(SimpleToken(id, tokenizer.token(id), True, None, None))
    made.append(tokens)
  return made


async def _decode(call: Call) -> list[str]:
  body: DecodeRequest = call.body
  served = call.find()
  given: Any = body.ids
  if isinstance(given[0], int):
    given = [given]
  call.take(given, "ids")
  made = []
  for item, ids in enumerate(given):
    if not isinstance(ids, list) or not all(isinstance(x, int) for x in ids):
      raise ServingError(
        "unprocessable",
        "ids: expected a list of token ids, or a list of such lists",
        item=item,
      )
    made.append(_join(served, ids, item, body.skip_special_tokens))
  return made


def _join(served: Served, ids: list[int], item: int, skip: bool) -> str:
  text = shared.decode(served, ids, item)
  if skip:
    return text
  tokenizer = served.model.task.tokenizer
  special = tokenizer.special
  kept = {special.pad, special.cls, special.sep, special.mask}
  parts: list[str] = []
  run: list[int] = []
  for id in [*ids, None]:
    if id is not None and id not in kept:
      run.append(id)
      continue
    if run:
      parts.append(tokenizer.decode(run).strip())
      run = []
    if id is not None:
      parts.append(tokenizer.token(id))
  return " ".join(parts)


async def _info(call: Call) -> Info:
  served, settings = call.find(), call.settings
  task = served.model.task
  labels = {
    name: x.names
    for name, x in task.targets.items()
    if isinstance(x, LabelledTarget)
  }
  kind: dict[str, Any] = {"embedding": {"pooling": _pooling(task)}}
  if labels and not shared.is_embedding(task):
    names = next(iter(labels.values()))
    kind = {
      "reranker" if len(names) == 1 else "classifier": {
        "id2label": {str(id): name for id, name in enumerate(names)},
        "label2id": {name: id for id, name in enumerate(names)},
      }
    }
  return Info(
    model_id=served.name,
    model_sha=served.version,
    model_dtype="float32",
    served_model_name=served.name,
    model_type=kind,
    max_concurrent_requests=settings.max_queue_rows,
    max_input_length=served.max_length,
    max_batch_tokens=served.max_batch_tokens,
    max_batch_requests=None,
    max_client_batch_size=settings.max_items,
    auto_truncate=True,
    tokenization_workers=1,
    version=VERSION,
    sha=None,
    docker_label=None,
  )


def _pooling(task: Any) -> str:
  for target in task.targets.values():
    if pooling := getattr(target, "pooling", None):
      return pooling if isinstance(pooling, str) else "_".join(pooling)
  return "mean"


async def _hub(call: Call) -> Any:
  """By the model's task: vectors, similarities, or labels."""
  body: HubRequest = call.body
  served = call.find()
  if isinstance(body.inputs, SimilarityInput):
    return await _cosines(call, served, body.inputs, body)
  if shared.is_embedding(served.model.task):
    return await _vectors(call, served, body)
  texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
  call.take(texts)
  records = [{"text": text} for text in texts]
  found = await _classify(call, served, records, body, False)
  top_k = body.parameters.get("top_k")
  return [x[: top_k if isinstance(top_k, int) else None] for x in found]


def _post(
  path: str, run: Any, summary: str, body: Any, answer: Any
) -> Endpoint:
  return Endpoint(
    "POST", path, run, summary, _TAG, body, answer, _QUERY, style="tei"
  )


ENDPOINTS = (
  _post("/embed", _embed, "Vectors of texts", EmbedRequest, list[list[float]]),
  _post(
    "/embed_all",
    _embed_all,
    "Vectors of all tokens of texts",
    EmbedAllRequest,
    list[list[list[float]]],
  ),
  _post(
    "/embed_sparse",
    _embed_sparse,
    "Sparse vectors of texts (SPLADE)",
    EmbedSparseRequest,
    list[list[SparseValue]],
  ),
  _post(
    "/predict",
    _predict,
    "Labels of texts or pairs",
    ClassifyRequest,
    list[Prediction | list[Prediction]],
  ),
  _post(
    "/rerank",
    _rerank,
    "Texts by their scores for a query",
    RerankRequest,
    list[Rank],
  ),
  _post(
    "/similarity",
    _similarity,
    "Cosines of a sentence and others",
    SimilarityRequest,
    list[float],
  ),
  _post(
    "/tokenize",
    _tokenize,
    "Tokens of texts",
    TokenizeRequest,
    list[list[SimpleToken]],
  ),
  _post("/decode", _decode, "Texts of token ids", DecodeRequest, list[str]),
  _post(
    "/",
    _hub,
    "Vectors, cosines or labels, for Hugging Face's client",
    HubRequest,
    list[float | list[float | Prediction]],
  ),
  Endpoint(
    "GET",
    "/info",
    _info,
    "The model and the limits",
    _TAG,
    answer=Info,
    query=_QUERY,
    style="tei",
  ),
)

"""Clients of a server, which need no JAX."""

import asyncio
import itertools
import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

try:
  import httpx
except ImportError as error:
  raise ImportError(
    'the client needs httpx; run pip install "bert_jax[client]"'
  ) from error

Record = Mapping[str, Any]

_RETRIED = (429, 503)
# Seconds between two tries, at most, unless the server says more.
_MAX_BACKOFF = 10.0
# Requests that an `AsyncClient` has under way for one call.
_CONCURRENT = 4


class RequestError(Exception):
  """The server refused a request, or did not answer it.

  Attributes:
    status: of HTTP; 0 without an answer.
    code: the server's, such as `unprocessable`.
    item: the number of the input that is wrong, from 0; None if it is the
      whole request.
    request_id: which the server's log has too.
  """

  def __init__(
    self,
    message: str,
    status: int = 0,
    code: str = "",
    item: int | None = None,
    request_id: str | None = None,
  ):
    super().__init__(message)
    self.status, self.code, self.item = status, code, item
    self.request_id = request_id


class _Base:
  """What both clients share: requests, retries, and how answers are read."""

  def __init__(
    self,
    url: str = "http://127.0.0.1:8080",
    token: str | None = None,
    *,
    model: str | None = None,
    timeout: float = 60.0,
    retries: int = 4,
    batch_size: int = 32,
    verify: Any = True,
  ):
    """A client of one server.

    Args:
      url: the address of the server.
      token: the bearer token, if the server wants one.
      model: the model's name; by default the first one of the server.
      timeout: seconds that a request may take; the server stops then, too.
      retries: how often a request is sent again after 429, 503 or a broken
        connection.
      batch_size: texts or records in a request; the server's `max_items` at
        most.
      verify: an `ssl.SSLContext` with the certificate that signs the server's,
        or False for none at all.
    """
    headers = {
      "Content-Type": "application/json",
      "X-Request-Timeout": f"{timeout:g}",
    }
    if token is not None:
      headers["Authorization"] = f"Bearer {token}"
    self._options = {
      "base_url": url,
      "headers": headers,
      "timeout": timeout,
      "verify": verify,
    }
    self._model, self._retries = model, retries
    self._batch_size = batch_size

  def _batches(self, items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), self._batch_size):
      yield items[start : start + self._batch_size]

  def _query(self, model: str | None) -> dict[str, str]:
    name = model or self._model
    return {"model": name} if name else {}

  def _pause_after(self, error: httpx.TransportError, tries: int) -> float:
    """Seconds until a request that got no answer is sent again.

    Raises:
      RequestError: it is not sent again.
    """
    pause = None
    if not isinstance(error, httpx.ReadTimeout):
      pause = self._pause(tries, None)
    if pause is None:
      reason = f"no answer: {error or type(error).__name__}"
      raise RequestError(reason) from error
    return pause

  def _pause(self, tries: int, response: httpx.Response | None) -> float | None:
    """The seconds until the next try, None where there is none."""
    if tries >= self._retries:
      return None
    if response is not None and response.status_code not in _RETRIED:
      return None
    pause = min(_MAX_BACKOFF, 0.1 * 2**tries)
    if response is not None:
      after = response.headers.get("Retry-After", "")
      pause = max(pause, float(after)) if after.isdecimal() else pause
    return pause * random.uniform(1.0, 1.25)

  def _embed_body(self, texts: Sequence[str], changes: dict[str, Any]) -> Any:
    return {"inputs": list(texts), **changes}

  def _predict_body(
    self,
    part: Sequence[str | Record],
    options: Mapping[str, Any],
    partial: bool,
  ) -> Any:
    on_error = "item" if partial else "request"
    return {
      "inputs": [x if isinstance(x, str) else dict(x) for x in part],
      "options": options,
      "on_error": on_error,
    }


def _read(response: httpx.Response) -> Any:
  """The JSON of an answer.

  Raises:
    RequestError: it is an error.
  """
  if response.is_success:
    return response.json()
  try:
    found = response.json()
  except ValueError:
    found = {}
  error = found.get("error", "") if isinstance(found, dict) else ""
  given = error if isinstance(error, dict) else {"message": error, **found}
  raise RequestError(
    given.get("message") or f"status {response.status_code}",
    response.status_code,
    str(given.get("code", "")),
    given.get("item"),
    response.headers.get("X-Request-Id"),
  )


def _answers(found: Mapping[str, Any], start: int) -> list[Any]:
  """The answers, with errors in the place of inputs without one.

  Args:
    found: what the server answered.
    start: the number of its first input among all.
  """
  answers = list(found["answers"])
  for error in found["errors"]:
    answers[error["item"]] = RequestError(
      error["message"], 422, error["code"], start + error["item"]
    )
  return answers


def _shift(error: RequestError, start: int) -> RequestError:
  """The error with the item's number among all inputs."""
  if error.item is not None:
    error.item += start
  return error


def _array(parts: Sequence[Any], single: bool) -> np.ndarray:
  vectors = [vector for part in parts for vector in part]
  made = np.array(vectors, np.float32)
  return made[0] if single else made


def _changes(**changes: Any) -> dict[str, Any]:
  # JSON null stands for the model's own setting of `normalize`.
  return {
    name: value
    for name, value in changes.items()
    if value is not None or name == "normalize"
  }


class Client(_Base):
  """A client of a server.

  >>> with Client(token="...") as client:
  ...   vectors = client.embed(["The cat sits.", "A feline is seated."])
  """

  def __init__(self, *args: Any, **kwargs: Any):
    super().__init__(*args, **kwargs)
    self._http = httpx.Client(**self._options)

  __init__.__doc__ = _Base.__init__.__doc__

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *error: object) -> None:
    self.close()

  def close(self) -> None:
    """Closes the connections."""
    self._http.close()

  def _send(self, method: str, path: str, **arguments: Any) -> Any:
    for tries in itertools.count():
      try:
        response = self._http.request(method, path, **arguments)
      except httpx.TransportError as error:
        pause = self._pause_after(error, tries)
      else:
        pause = self._pause(tries, response)
        if response.is_success or pause is None:
          return _read(response)
      time.sleep(pause)

  def predict(
    self,
    inputs: str | Record | Sequence[str | Record],
    *,
    model: str | None = None,
    partial: bool = False,
    **options: Any,
  ) -> Any:
    """The answers of a model's task, as `Model` gives them, as JSON.

    Args:
      inputs: a text or record, or a list of them.
      model: the model's name.
      partial: whether a bad input has a `RequestError` for an answer, instead
        of refusing the others.
      **options: of the task, such as `top_k`.

    Returns:
      The answer to a single text or record; a list for a list.

    Raises:
      RequestError: the server refuses, or cannot be reached.
    """
    if isinstance(inputs, str | Mapping):
      return self.predict([inputs], model=model, partial=partial, **options)[0]
    path = f"/v1/{model or self._model or self.models()[0]['id']}/predict"
    answers: list[Any] = []
    for part in self._batches(inputs):
      body = self._predict_body(part, options, partial)
      try:
        found = self._send("POST", path, content=json.dumps(body))
      except RequestError as error:
        raise _shift(error, len(answers)) from error.__cause__
      answers += _answers(found, len(answers))
    return answers

  def embed(
    self,
    texts: str | Sequence[str],
    *,
    model: str | None = None,
    prompt_name: str | None = None,
    normalize: bool | None = None,
    dimensions: int | None = None,
  ) -> np.ndarray:
    """Vectors of texts.

    Args:
      texts: one text, or a list of them.
      model: the model's name.
      prompt_name: of a prompt of the model.
      normalize: whether vectors have length 1; by default as the model has it.
      dimensions: of the vectors, which are cut.

    Returns:
      float32 [width] for a single text, [texts, width] for a list.

    Raises:
      RequestError: the server refuses, or cannot be reached.
    """
    single = isinstance(texts, str)
    given = [texts] if isinstance(texts, str) else texts
    changes = _changes(
      prompt_name=prompt_name, normalize=normalize, dimensions=dimensions
    )
    query, parts, start = self._query(model), [], 0
    for part in self._batches(given):
      body = self._embed_body(part, changes)
      try:
        parts.append(
          self._send("POST", "/embed", params=query, content=json.dumps(body))
        )
      except RequestError as error:
        raise _shift(error, start) from error.__cause__
      start += len(part)
    return _array(parts, single)

  def rerank(
    self, query: str, texts: Sequence[str], *, model: str | None = None
  ) -> list[tuple[int, float]]:
    """The places of texts and their scores, the best text first.

    Raises:
      RequestError: the server refuses, or cannot be reached.
    """
    ranks, start = [], 0
    for part in self._batches(texts):
      body = {"query": query, "texts": list(part)}
      found = self._send(
        "POST", "/rerank", params=self._query(model), content=json.dumps(body)
      )
      ranks += [(start + x["index"], x["score"]) for x in found]
      start += len(part)
    return sorted(ranks, key=lambda rank: -rank[1])

  def models(self) -> list[dict[str, Any]]:
    """The models of the server, with their tasks and versions.

    Raises:
      RequestError: the server refuses, or cannot be reached.
    """
    return self._send("GET", "/v1/models")["data"]

  def ready(self) -> bool:
    """Whether the server takes requests."""
    try:
      return self._http.get("/ready").is_success
    except httpx.TransportError:
      return False


class AsyncClient(_Base):
  """The same for asyncio; a call has several requests under way at a time."""

  def __init__(self, *args: Any, **kwargs: Any):
    super().__init__(*args, **kwargs)
    self._http = httpx.AsyncClient(**self._options)

  __init__.__doc__ = _Base.__init__.__doc__

  async def __aenter__(self) -> Self:
    return self

  async def __aexit__(self, *error: object) -> None:
    await self.close()

  async def close(self) -> None:
    """Closes the connections."""
    await self._http.aclose()

  async def _send(self, method: str, path: str, **arguments: Any) -> Any:
    for tries in itertools.count():
      try:
        response = await self._http.request(method, path, **arguments)
      except httpx.TransportError as error:
        pause = self._pause_after(error, tries)
      else:
        pause = self._pause(tries, response)
        if response.is_success or pause is None:
          return _read(response)
      await asyncio.sleep(pause)

  async def _send_all(
    self, path: str, query: Mapping[str, str], bodies: Sequence[Any]
  ) -> list[Any]:
    """The answers to several requests, a few of them at a time."""
    limit = asyncio.Semaphore(_CONCURRENT)

    async def send(number: int, body: Any) -> Any:
      async with limit:
        try:
          return await self._send(
            "POST", path, params=query, content=json.dumps(body)
          )
        except RequestError as error:
          raise _shift(error, number * self._batch_size) from error.__cause__

    try:
      async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(send(*x)) for x in enumerate(bodies)]
    except ExceptionGroup as errors:
      raise errors.exceptions[0] from None
    return [task.result() for task in tasks]

  async def predict(
    self,
    inputs: str | Record | Sequence[str | Record],
    *,
    model: str | None = None,
    partial: bool = False,
    **options: Any,
  ) -> Any:
    """See `Client.predict`."""
    if isinstance(inputs, str | Mapping):
      found = await self.predict(
        [inputs], model=model, partial=partial, **options
      )
      return found[0]
    name = model or self._model or (await self.models())[0]["id"]
    bodies = [
      self._predict_body(part, options, partial)
      for part in self._batches(inputs)
    ]
    found = await self._send_all(f"/v1/{name}/predict", {}, bodies)
    answers: list[Any] = []
    for part in found:
      answers += _answers(part, len(answers))
    return answers

  async def embed(
    self,
    texts: str | Sequence[str],
    *,
    model: str | None = None,
    prompt_name: str | None = None,
    normalize: bool | None = None,
    dimensions: int | None = None,
  ) -> np.ndarray:
    """See `Client.embed`."""
    single = isinstance(texts, str)
    given = [texts] if isinstance(texts, str) else texts
    changes = _changes(
      prompt_name=prompt_name, normalize=normalize, dimensions=dimensions
    )
    bodies = [self._embed_body(part, changes) for part in self._batches(given)]
    parts = await self._send_all("/embed", self._query(model), bodies)
    return _array(parts, single)

  async def rerank(
    self, query: str, texts: Sequence[str], *, model: str | None = None
  ) -> list[tuple[int, float]]:
    """See `Client.rerank`."""
    bodies = [
      {"query": query, "texts": list(part)} for part in self._batches(texts)
    ]
    parts = await self._send_all("/rerank", self._query(model), bodies)
    ranks = [
      (number * self._batch_size + rank["index"], rank["score"])
      for number, part in enumerate(parts)
      for rank in part
    ]
    return sorted(ranks, key=lambda rank: -rank[1])

  async def models(self) -> list[dict[str, Any]]:
    """See `Client.models`."""
    return (await self._send("GET", "/v1/models"))["data"]

  async def ready(self) -> bool:
    """Whether the server takes requests."""
    try:
      return (await self._http.get("/ready")).is_success
    except httpx.TransportError:
      return False

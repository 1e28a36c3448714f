"""A registry with models of small tests, and a server in a thread."""

import asyncio
import contextlib
import socket
import threading
import time
import types
import zlib

import numpy as np
import uvicorn

from bert_jax.predictor import Predictor
from bert_jax.serving.app import make_app
from bert_jax.serving.errors import ServingError
from bert_jax.serving.metrics import Metrics
from bert_jax.serving.protocol import make_protocol
from bert_jax.serving.settings import ServeSettings
from bert_jax.settings import UserError
from bert_jax.tasks import TASKS
from bert_jax.tasks.inputs import fields
from bert_jax.tasks.targets.class_label import Label
from bert_jax.tasks.targets.masked_tokens import Candidate
from bert_jax.tasks.targets.next_tokens import Text
from bert_jax.tasks.targets.span import Answer
from bert_jax.tasks.targets.token_labels import Word
from bert_jax.tasks.targets.values import Value
from tests import small

# Limits small enough for tests of slow clients.
FAST = {
  "head_timeout": 0.3,
  "body_timeout": 0.4,
  "write_timeout": 0.4,
  "idle_timeout": 0.5,
}


def settings(**changes):
  return ServeSettings(**{"models": {"small": "small"}, **changes})


# An answer of each task, for any record.
ANSWERS = {
  "classification": [Label("good", 0.75), Label("bad", 0.25)],
  "embedding": np.array([0.5, -0.25], np.float32),
  "generation": [Text("an array", -1.5), Text("a list", -2.0, False)],
  "masked_lm": [[Candidate("array", 0.5), Candidate("list", 0.25)]],
  "question_answering": [Answer("the mat", 16, 23, 0.5)],
  "regression": [Value("value", 0.5)],
  "tagging": [Word("Ann", 0, 3, "B-PER", 0.5), Word("is", 4, 6, "O", 1.0)],
}
LABELS = {
  "classification": ("good", "bad"),
  "dialogue": {"intent": ("good", "bad"), "slots": ("O", "B-PER")},
  "multi_label": ("good", "bad"),
  "tagging": ("O", "B-PER"),
}


def task(name):
  """A task of the table on the small encoder."""
  found = TASKS[name]
  if name in LABELS:
    found = found.with_labels(LABELS[name])
  return found.bind(small.ENCODER, small.tokenizer())


def vector(text, width=8):
  """Some vector of length 1."""
  numbers = np.random.default_rng(zlib.crc32(text.encode())).normal(size=width)
  return (numbers / np.linalg.norm(numbers)).astype(np.float32)


class FakeServed:
  """A `Served` that checks records and gives the same answer to each."""

  def __init__(self, name, task_name=None, version="1"):
    self.name, self.version, self.engine = name, version, "fake"
    self.max_length, self.loaded_at = 32, 0.0
    self.max_batch_tokens = 2048
    self.task = task(task_name or name)
    forward = types.SimpleNamespace(
      outputs=("classifier", "token_embeddings", "sparse_embedding")
    )
    self.model = Predictor(self.task, forward)
    self.delay = 0.0
    self.cancelled = self.answered = 0

  async def _wait(self, usage, texts):
    try:
      await asyncio.sleep(self.delay)
    except asyncio.CancelledError:
      self.cancelled += 1
      raise
    self.answered += 1
    if usage is not None:
      tokenizer = self.task.tokenizer
      usage.tokens += sum(len(tokenizer.encode(x).ids) for x in texts)

  async def answer(
    self, records, *, options=(), deadline=None, partial=False, usage=None
  ):
    self.task.check_options(dict(options))
    if "top_k" in dict(options):
      fields.at_least_one("top_k", options["top_k"])
    made = []
    for item, record in enumerate(records):
      record = {"text": record} if isinstance(record, str) else record
      try:
        self.task.preprocess(record, labelled=False)
        made.append(ANSWERS[self.task.name])
      except UserError as error:
        made.append(ServingError("unprocessable", str(error), item=item))
        if not partial:
          raise made[-1] from None
    await self._wait(usage, [])
    return made

  async def stream(self, record, *, options, deadline=None, usage=None):
    (found,) = await self.answer([record], options=options)
    yield found[0].text[:3]
    if options.get("seed"):
      raise ServingError("deadline_exceeded", "too late")
    yield found[0].text[3:]
    yield None

  async def embed(
    self,
    texts,
    *,
    prompt=None,
    prompt_name=None,
    normalize=None,
    truncate_dim=None,
    deadline=None,
    usage=None,
  ):
    named = {} if prompt_name is None else {"prompt_name": prompt_name}
    prefix = self.model.embedding_task(**named).inputs.prompt
    await self._wait(usage, texts)
    return [vector(prefix + text)[:truncate_dim] for text in texts]

  async def outputs(self, records, name, *, deadline=None, usage=None):
    await self._wait(usage, [])
    if name == "classifier":
      return [np.array([2, -1], np.float32) for _ in records]
    if name == "sparse_embedding":
      return [np.array([0, 1, 0, 2.5], np.float32) for _ in records]
    return [np.full((3, 4), 0.1, np.float32) for _ in records]

  async def tokenize(self, texts, pairs=None):
    given = zip(texts, pairs or [None] * len(texts))
    return [self.task.tokenizer.encode(*both) for both in given]


class FakeRegistry:
  """The methods of `Registry` on given models."""

  def __init__(self, *served):
    self.served = {x.name: x for x in served}
    self.ready, self.live, self.draining = True, True, False
    self.calls = []

  def names(self):
    return list(self.served)

  def get(self, name=None, version=None):
    name = name or next(iter(self.served))
    found = self.served.get(name)
    if found is None or version not in (None, found.version):
      raise ServingError("not_found", "there is no such model or version")
    return found

  def status(self):
    return {name: {"version": x.version} for name, x in self.served.items()}

  async def reload(self, name):
    self.calls.append(("reload", self.get(name).name))

  async def roll_back(self, name, version=None):
    self.calls.append(("roll_back", self.get(name, version).name, version))

  async def set_canary(self, name, version, weight):
    self.calls.append(("canary", self.get(name, version).name, weight))


@contextlib.contextmanager
def running(app, limits, metrics=None, wait=True, **config):
  """A uvicorn server in a thread; yields its port."""
  with socket.create_server(("127.0.0.1", 0)) as listener:
    server = uvicorn.Server(
      uvicorn.Config(
        app,
        http=make_protocol(limits, metrics),
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=5,
        **config,
      )
    )
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
      while not server.started and thread.is_alive():
        time.sleep(0.005)
      yield listener.getsockname()[1]
    finally:
      server.should_exit = True
      if wait:
        thread.join(10)
        assert not thread.is_alive()
      else:
        time.sleep(0.3)


@contextlib.contextmanager
def serving(*served, config=None, **changes):
  """A server of these models; yields its port and what it is made of."""
  limits, metrics = settings(**changes), Metrics()
  registry = FakeRegistry(*served)
  app = make_app(registry, metrics, limits)
  with running(app, limits, metrics, **(config or {})) as port:
    yield port, registry, metrics

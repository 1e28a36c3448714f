"""New versions, and stops, while requests are answered."""

import asyncio
import dataclasses
import multiprocessing
import os
import pathlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any

import numpy as np

from benchmarks.runner import ROOT
from benchmarks.serving import load, servers
from benchmarks.serving.servers import Server

_CLIENTS = 4
_TEXTS = 50
# A load balancer asks so often whether a server is ready.
_POLL_SECONDS = 0.5
_TOLERANCE = 1e-4
# Versions that stay in the folder.
_KEPT = 3


def export(model: str, output: pathlib.Path) -> str:
  """Exports a model to ONNX, in a process of its own."""
  subprocess.run(
    [sys.executable, "-m", "launch.export", "--to=onnx", "--task=embedding"]
    + [f"--model={model}", f"--output={output}"],
    cwd=ROOT,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
    stdout=subprocess.DEVNULL,
    check=True,
  )
  return str(output)


def changed(model: str, output: pathlib.Path) -> str:
  """Saves a model with other word embeddings, whose vectors differ.

  In a process of its own, since this one starts others, and JAX has threads.
  """
  context = multiprocessing.get_context("spawn")
  with futures.ProcessPoolExecutor(1, context) as pool:
    return pool.submit(_changed, model, output).result()


def _changed(model: str, output: pathlib.Path) -> str:
  import jax

  import bert_jax

  found = bert_jax.load(model)
  rng = np.random.default_rng(0)

  def noisy(path: Any, x: Any) -> Any:
    name = jax.tree_util.keystr(path)
    if "embedding" not in name or x.ndim != 2 or len(x) < 1000:
      return x
    return x + rng.normal(0, float(x.std()), x.shape).astype(x.dtype)

  params = jax.tree_util.tree_map_with_path(noisy, found.params)
  bert_jax.save(dataclasses.replace(found, params=params), str(output))
  return str(output)


def _expected(export: str, texts: Sequence[str]) -> np.ndarray:
  """The right vectors of texts, [texts, width]."""
  import bert_jax

  return np.asarray(bert_jax.load(export).embed(list(texts)))


class _Check:
  """Counts what becomes of requests under load."""

  def __init__(self, texts: Sequence[str], known: Sequence[np.ndarray]):
    self._texts, self._known = list(texts), known
    self.counts = {"right": 0, "wrong": 0, "lost": 0}
    self.which: list[int] = []
    """The number of the known vectors, for each right answer, in order."""

  def add(self, answer: load.Answer) -> None:
    """Counts an answer."""
    if answer.status == 200:
      vector = np.array(load.vectors(answer)[0])
      row = self._texts.index(answer.text)
      near = [
        number
        for number, vectors in enumerate(self._known)
        if np.abs(vectors[row] - vector).max() < _TOLERANCE
      ]
      self.counts["right" if near else "wrong"] += 1
      self.which += near[:1]
    elif answer.status > 0:
      name = f"status {answer.status}"
      self.counts[name] = self.counts.get(name, 0) + 1
    elif answer.status == 0:
      self.counts["lost"] += 1

  async def client(self, port: int, go_on: Callable[[], bool]) -> None:
    """Sends requests as long as it is asked to."""
    connection, number = load.Connection(port), 0
    while go_on():
      answer = await connection.send(self._texts[number % len(self._texts)])
      self.add(answer)
      number += 1
      if answer.status == -1:
        await asyncio.sleep(0.05)
    connection.close()


def _place(export: str, folder: pathlib.Path, version: int) -> None:
  """Puts an export into a folder of versions; its manifest comes last."""
  target = folder / str(version)
  shutil.copytree(
    export, target, copy_function=os.link, ignore=lambda *_: ["manifest.json"]
  )
  shutil.copy(pathlib.Path(export, "manifest.json"), target)


def hot_updates(
  exports: Sequence[str], folder: pathlib.Path, count: int
) -> dict[str, Any]:
  """New versions under load, in turn of one export and another.

  Args:
    exports: of two models.
    folder: on the file system of the exports.
    count: the number of updates.

  Returns:
    The number of answers that were right, wrong, or lost, and of other
    statuses; `updates`, how many versions were served; and `changes`, how often
    the answers of the clients together turned from one model to the other.
  """
  texts = load.short_texts(_TEXTS)
  check = _Check(texts, [_expected(x, texts) for x in exports])
  versions = folder / "versions"
  versions.mkdir()
  _place(exports[0], versions, 1)

  async def served(server: Server, version: int) -> bool:
    connection = load.Connection(server.port)
    for _ in range(600):
      answer = await connection.send(texts[0])
      if answer.version == str(version):
        connection.close()
        return True
      await asyncio.sleep(0.1)
    connection.close()
    return False

  async def update(server: Server) -> int:
    done, going = 0, [True]
    clients = [
      asyncio.create_task(check.client(server.port, lambda: going[0]))
      for _ in range(_CLIENTS)
    ]
    for version in range(2, count + 2):
      await asyncio.to_thread(
        _place, exports[(version - 1) % 2], versions, version
      )
      if not await served(server, version):
        break
      done += 1
      if version > _KEPT:
        shutil.rmtree(versions / str(version - _KEPT))
    going[0] = False
    await asyncio.gather(*clients)
    return done

  with servers.running(servers.ours(str(versions), {0})) as server:
    memory = server.memory()
    done = asyncio.run(update(server))
    growth = server.memory() - memory
  turns = np.count_nonzero(np.diff(check.which))
  return {
    **check.counts,
    "updates": done,
    "changes": int(turns),
    "memory_growth": growth,
  }


def stops(export: str, count: int) -> dict[str, Any]:
  """SIGTERM under load.

  The clients ask a server as long as a load balancer would: until it says that
  it is not ready, which is looked at every half second.

  Returns:
    The number of answers that were right, wrong, or lost, and of other
    statuses; and the exit codes.
  """
  texts = load.short_texts(_TEXTS)
  check = _Check(texts, [_expected(export, texts)])
  codes = []

  async def under_load(server: Server) -> None:
    ready = [True]
    clients = [
      asyncio.create_task(check.client(server.port, lambda: ready[0]))
      for _ in range(_CLIENTS)
    ]
    await asyncio.sleep(1)
    server.process.send_signal(signal.SIGTERM)
    while ready[0]:
      await asyncio.sleep(_POLL_SECONDS)
      ready[0] = await asyncio.to_thread(server.is_ready)
    await asyncio.gather(*clients)

  for _ in range(count):
    with servers.running(servers.ours(export, {0})) as server:
      asyncio.run(under_load(server))
      codes.append(server.stop())
  return {**check.counts, "stops": count, "exit_codes": sorted(set(codes))}


def line(name: str, found: Mapping[str, Any]) -> str:
  """A result in a line."""
  return f"{name}: " + ", ".join(f"{key} {x}" for key, x in found.items())

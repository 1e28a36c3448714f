"""The processes of a run: how they find each other, and what one does for all.

On one host or many, each process runs the same program on its own devices,
and together they are one run.
"""

import contextlib
import dataclasses
import json
import os
import re
import sys
import warnings
from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from bert_jax.settings import UserError

_T = TypeVar("_T")

# How runtimes put it that another process does not answer any more.
_OF_PEERS = re.compile(
  r"\b(gloo|nccl|UNAVAILABLE|ABORTED|DEADLINE_EXCEEDED|heartbeat|peer|slice"
  r"|connection)\b",
  re.IGNORECASE,
)
# What a runtime's errors begin with, whatever class they arrive as.
_STATUS = re.compile(r"[A-Z]+(_[A-Z]+)*: ")
_joined = False


@dataclasses.dataclass(frozen=True)
class Cluster:
  """How to find the other processes; all None asks the environment.

  Attributes:
    coordinator_address: host and port of the first process, `HOST:PORT`.
    num_processes: how many there are.
    process_id: which one this is, from 0.
    heartbeat_seconds: a process that is not heard of for so long is lost, and
      the others end.
  """

  coordinator_address: str | None = None
  num_processes: int | None = None
  process_id: int | None = None
  heartbeat_seconds: int = 10

  def __post_init__(self):
    given = (self.coordinator_address, self.num_processes, self.process_id)
    if None in given and any(x is not None for x in given):
      raise UserError(
        "--coordinator_address, --num_processes and --process_id go together;"
        " give all of them, or none where the cluster tells"
      )
    if self.heartbeat_seconds < 1:
      raise UserError(
        "--heartbeat_seconds: expected at least 1, got"
        f" {self.heartbeat_seconds}"
      )
    if self.coordinator_address is None:
      return
    host, _, port = self.coordinator_address.rpartition(":")
    if not host or not port.isdecimal():
      raise UserError(
        "--coordinator_address: expected HOST:PORT, got"
        f" {self.coordinator_address!r}"
      )
    if not 0 <= self.process_id < self.num_processes:
      raise UserError(
        f"--process_id: expected 0 to {self.num_processes - 1}, got"
        f" {self.process_id}"
      )


def join(cluster: Cluster) -> None:
  """Joins the other processes, before anything else is asked of jax.

  Cloud TPU, GKE's TPU slices, Slurm and Open MPI tell each process which one
  it is; where nothing does, this process is the whole run.

  Raises:
    UserError: the others cannot be reached.
  """
  global _joined
  try:
    with warnings.catch_warnings():
      # Kubernetes without its Python client: the flags say what that would.
      warnings.filterwarnings("ignore", ".*Kubernetes environment detected")
      jax.distributed.initialize(
        cluster.coordinator_address,
        cluster.num_processes,
        cluster.process_id,
        heartbeat_timeout_seconds=cluster.heartbeat_seconds,
      )
  except ValueError:
    # No environment says where the others are.
    if cluster.coordinator_address is not None:
      raise
    return
  except jax.errors.JaxRuntimeError as error:
    raise UserError(
      f"the processes of the run did not find each other: {_first_line(error)}"
    ) from None
  except RuntimeError:
    # A program that uses jax already, and calls a command: it runs alone.
    if cluster.coordinator_address is not None:
      raise
    return
  _joined = True


def has_joined() -> bool:
  """Whether this process is one of several that may wait for it."""
  return _joined


def is_first() -> bool:
  """Whether this process does what only one may do, such as writing files."""
  return jax.process_index() == 0


def on_first(function: Callable[[], _T]) -> _T:
  """Calls a function in the first process alone; all get what came of it.

  Every process must call this, in the same order.

  Args:
    function: its result must be JSON, and comes back as JSON makes it.

  Raises:
    UserError: the function raised one, or an OSError; in every process.
  """
  if jax.process_count() == 1:
    return function()
  failure, sent = None, b""
  if is_first():
    try:
      reply = {"value": function()}
    except (UserError, OSError) as error:
      failure, reply = error, {"error": str(error)}
    sent = json.dumps(reply).encode()
  size = multihost_utils.broadcast_one_to_all(np.int32(len(sent)))
  data = np.zeros(size, np.uint8)
  data[: len(sent)] = np.frombuffer(sent, np.uint8)
  data = np.asarray(multihost_utils.broadcast_one_to_all(data), np.uint8)
  if failure:
    raise failure
  reply = json.loads(data.tobytes())
  if "error" in reply:
    raise UserError(f"process 0: {reply['error']}")
  return reply["value"]


def exit_alone(code: int) -> None:
  """Ends a process that has failed, without waiting for the others.

  They cannot go on without it, and notice that it is gone. A process that
  is a run of its own is left to end as any other.
  """
  if _joined:
    for stream in (sys.stdout, sys.stderr):
      with contextlib.suppress(OSError):
        stream.flush()
    os._exit(code)


class LostError(Exception):
  """Another process of the run is gone, and so this one cannot go on."""


def lost(error: BaseException | None) -> str | None:
  """What to tell of an error that means that another process is gone.

  Args:
    error: that, or an error whose cause is that, as Orbax puts it.

  Returns:
    One line; None if the error means something else.
  """
  while error is not None and not isinstance(error, LostError):
    is_runtimes = isinstance(
      error, jax.errors.JaxRuntimeError
    ) or _STATUS.match(str(error))
    if _joined and is_runtimes and _OF_PEERS.search(str(error)):
      return (
        f"process {jax.process_index()} of {jax.process_count()}: another"
        f" process of the run is gone ({_first_line(error)}); the same"
        " command, for all of them, goes on from the newest checkpoint"
      )
    error = error.__cause__
  return error and str(error)


def _first_line(error: BaseException) -> str:
  return str(error).strip().split("\n")[0][:200]

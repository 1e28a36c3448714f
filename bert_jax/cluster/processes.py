"""The processes of a run: joining them, and work for the first one only.

On one host or many, each process runs the same program on its own devices;
together they are one run.
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

# Words of runtime errors for a process that does not answer any more.
_OF_PEERS = re.compile(
  r"\b(gloo|nccl|UNAVAILABLE|ABORTED|DEADLINE_EXCEEDED|heartbeat|peer|slice"
  r"|connection)\b",
  re.IGNORECASE,
)
# The start of runtime errors, whatever their Python class.
_STATUS = re.compile(r"[A-Z]+(_[A-Z]+)*: ")
_joined = False


@dataclasses.dataclass(frozen=True)
class Cluster:
  """How to find the other processes; with None the environment is asked.

  Attributes:
    coordinator_address: host and port of the first process, `HOST:PORT`.
    num_processes: the number of processes.
    process_id: the number of this process, from 0.
    heartbeat_seconds: a process without a heartbeat for this time is lost, and
      the others exit.
  """

  coordinator_address: str | None = None
  num_processes: int | None = None
  process_id: int | None = None
  heartbeat_seconds: int = 10

  def __post_init__(self):
    given = (self.coordinator_address, self.num_processes, self.process_id)
    if None in given and any(x is not None for x in given):
      raise UserError(
        "--coordinator_address, --num_processes and --process_id: give all of"
        " them, or none where the cluster sets them"
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
  """Joins the other processes; to be called before any other use of JAX.

  On Cloud TPU, GKE's TPU slices, Slurm and Open MPI the processes find each
  other. Without these and without flags, this process is the whole run.

  Raises:
    UserError: the others cannot be reached.
  """
  global _joined
  try:
    with warnings.catch_warnings():
      # On Kubernetes without its Python client, the flags replace it.
      warnings.filterwarnings("ignore", ".*Kubernetes environment detected")
      jax.distributed.initialize(
        cluster.coordinator_address,
        cluster.num_processes,
        cluster.process_id,
        heartbeat_timeout_seconds=cluster.heartbeat_seconds,
      )
  except ValueError:
    # No known cluster environment.
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
  """Whether this process is one of several, which may wait for it."""
  return _joined


def is_first() -> bool:
  """Whether this is the process that writes files and logs."""
  return jax.process_index() == 0


def on_first(function: Callable[[], _T]) -> _T:
  """Calls a function in the first process; all get its result, JSON values.

  Every process must call this, in the same order.

  Raises:
    UserError: the function raised UserError or OSError; in every process.
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
  """Exits a failed process of several without waiting for the others.

  The others notice that it is gone. A process that is the whole run returns
  and exits as usual.
  """
  if _joined:
    for stream in (sys.stdout, sys.stderr):
      with contextlib.suppress(OSError):
        stream.flush()
    os._exit(code)


class LostError(Exception):
  """Another process of the run is gone, so this one cannot continue."""


def lost(error: BaseException | None) -> str | None:
  """The message for an error, or its cause, if another process is gone.

  It is None for any other error.
  """
  while error is not None and not isinstance(error, LostError):
    is_runtimes = isinstance(
      error, jax.errors.JaxRuntimeError
    ) or _STATUS.match(str(error))
    if _joined and is_runtimes and _OF_PEERS.search(str(error)):
      return (
        f"process {jax.process_index()} of {jax.process_count()}: another"
        f" process of the run is gone ({_first_line(error)}); the same"
        " command, for all processes, resumes from the newest checkpoint"
      )
    error = error.__cause__
  return error and str(error)


def _first_line(error: BaseException) -> str:
  return str(error).strip().split("\n")[0][:200]

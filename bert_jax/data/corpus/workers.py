"""Runs tasks in worker processes, with results in the order of the tasks."""

import concurrent.futures
import multiprocessing
import multiprocessing.synchronize
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import process
from typing import Any, TypeVar

from bert_jax.settings import UserError
from bert_jax.storage import paths

T = TypeVar("T")

# Runs a function on each task and yields the results in order. The third
# argument is a folder that the runner may create for its files, and that all
# its machines can access.
Runner = Callable[
  [Callable[..., Any], Sequence[tuple[Any, ...]], paths.Path], Iterator[Any]
]


def available_cores() -> int:
  """The number of cores that this process may use."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def run(
  function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], processes: int
) -> Iterator[T]:
  """Yields `function(*task)` for each task, in the order of the tasks.

  The function must be one of a module, since it is pickled. A single process is
  this one.

  Raises:
    UserError: a process was killed, most likely for lack of memory.
    Exception: the first exception of `function`; tasks not yet started are
      cancelled.
  """
  if processes == 1:
    for task in tasks:
      yield function(*task)
    return
  # Forking a process with threads can deadlock.
  context = multiprocessing.get_context("spawn")
  stop = context.Event()
  executor = concurrent.futures.ProcessPoolExecutor(
    min(processes, max(1, len(tasks))),
    mp_context=context,
    initializer=_start_worker,
    initargs=(stop,),
  )
  try:
    futures = [executor.submit(function, *task) for task in tasks]
    for future in futures:
      yield future.result()
  except process.BrokenProcessPool:
    raise UserError(
      "a worker process was killed, most likely for lack of memory; use fewer"
      f" than {processes} processes (--processes)"
    ) from None
  except BaseException:
    stop.set()  # Ends running tasks, which can take minutes.
    raise
  finally:
    executor.shutdown(cancel_futures=True)


def local_runner(processes: int) -> Runner:
  """A `Runner` with worker processes of this machine."""
  return lambda function, tasks, _: run(function, tasks, processes)


def _start_worker(stop: multiprocessing.synchronize.Event) -> None:
  # More threads than cores would be slower.
  os.environ["TOKENIZERS_PARALLELISM"] = "false"
  # Ctrl-C goes to all processes; the parent handles it.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  threading.Thread(target=_end_early, args=(stop,), daemon=True).start()


def _end_early(stop: multiprocessing.synchronize.Event) -> None:
  """Ends this process if it is stopped or its parent ends."""
  parent = multiprocessing.parent_process()
  while parent.is_alive() and not stop.wait(0.2):
    pass
  os._exit(1)

"""Work spread over processes, with results in the order of the tasks."""

import concurrent.futures
import multiprocessing
import multiprocessing.synchronize
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import process
from typing import Any, TypeVar

from bert_jax import settings
from bert_jax.storage import paths

T = TypeVar("T")

# What runs a function on each of many tasks and yields the results in their
# order. It is also given the path of a folder that it may make, which all
# machines that work can see.
Runner = Callable[
  [Callable[..., Any], Sequence[tuple[Any, ...]], paths.Path], Iterator[Any]
]


def available_cores() -> int:
  """The number of cores this process may use."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def run(
  function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], processes: int
) -> Iterator[T]:
  """Yields `function(*task)` for each task, in the order of the tasks.

  Args:
    function: a function of a module, for it is sent by its name.
    tasks: the arguments of each call.
    processes: how many processes work; with 1 it is this one.

  Raises:
    UserError: a process was killed, for instance for its memory.
    Exception: what `function` raises; the tasks not yet begun are dropped.
  """
  if processes == 1:
    for task in tasks:
      yield function(*task)
    return
  # Spawned, for forking a process that has threads may deadlock.
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
    raise settings.UserError(
      "a worker process was killed, most likely for want of memory; try fewer"
      f" than {processes} (--processes)"
    ) from None
  except BaseException:
    stop.set()  # Or a task that runs for minutes would run to its end.
    raise
  finally:
    executor.shutdown(cancel_futures=True)


def local_runner(processes: int) -> Runner:
  """`run` with so many processes, where a `Runner` is wanted."""
  return lambda function, tasks, _: run(function, tasks, processes)


def _start_worker(stop: multiprocessing.synchronize.Event) -> None:
  # The processes are the parallelism; threads on top would only contend.
  os.environ["TOKENIZERS_PARALLELISM"] = "false"
  # Ctrl-C goes to all processes; the parent answers it.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  threading.Thread(target=_end_early, args=(stop,), daemon=True).start()


def _end_early(stop: multiprocessing.synchronize.Event) -> None:
  """Ends this process when it is told to, or its parent was killed."""
  parent = multiprocessing.parent_process()
  while parent.is_alive() and not stop.wait(0.2):
    pass
  os._exit(1)

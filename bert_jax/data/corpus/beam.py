"""Runs tasks on many machines with Apache Beam (the extra `beam`).

Tasks and results are passed through files in a folder that all machines can
access, which works with every Beam runner and any size of task. The pipeline
itself passes only the indices of the tasks.
"""

import contextlib
import difflib
import functools
import io
import pathlib
import pickle
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bert_jax import settings
from bert_jax.data.corpus import workers
from bert_jax.storage import folders, paths

if TYPE_CHECKING:
  import apache_beam

RUNNERS = ("DirectRunner", "DataflowRunner", "FlinkRunner", "SparkRunner")
# These runners accept options that Beam itself does not know.
_OPEN_RUNNERS = ("FlinkRunner", "SparkRunner")

_DEFAULTS = (
  # Else each worker logs twenty lines at its start.
  "--default_sdk_harness_log_level=WARNING",
  # Keeps the DirectRunner from downloading a program that it does not need
  # for pipelines without triggers.
  "--allow_unsafe_triggers",
)

_TASKS = "tasks"
_ERROR = "error"


def runner(name: str, options: str = "") -> workers.Runner:
  """A runner of tasks that uses Apache Beam.

  Args:
    name: a name in `RUNNERS`.
    options: Beam's pipeline options as on a command line, for instance
      "--project=mine --region=europe-west4".

  Raises:
    UserError: Apache Beam is not installed, or an option is invalid.
  """
  settings.choice("--beam_runner", name, dict.fromkeys(RUNNERS))
  try:
    import apache_beam  # noqa: F401  An extra: only clusters need it.
  except ImportError as error:
    raise settings.UserError(
      f"--beam_runner needs Apache Beam: pip install 'bert_jax[beam]' ({error})"
    ) from None
  pipeline = functools.partial(_pipeline, name, _arguments(name, options))
  with pipeline():  # Fail before any work.
    pass
  return functools.partial(_run, name, pipeline)


def _arguments(runner: str, options: str) -> list[str]:
  """Splits and validates pipeline options."""
  from apache_beam.options import pipeline_options

  where = "--beam_options"
  try:
    arguments = shlex.split(options)
  except ValueError as error:
    raise settings.UserError(f"{where}: {options!r}: {error}") from None
  for argument in arguments:
    if not argument.startswith("--"):
      raise settings.UserError(
        f"{where}: expected '--name=value ...', got {argument!r}"
      )
  arguments = [*_DEFAULTS, *arguments, f"--runner={runner}"]
  told = io.StringIO()
  try:
    with contextlib.redirect_stderr(told):
      given = pipeline_options.PipelineOptions(arguments)
      given = given.get_all_options(retain_unknown_options=True)
  except SystemExit:  # Raised by argparse.
    reason = _last_line(told.getvalue()).rpartition("error: ")[2]
    raise settings.UserError(f"{where}: {reason}") from None
  if runner not in _OPEN_RUNNERS:
    known = pipeline_options.PipelineOptions([]).get_all_options()
    for name in given.keys() - known.keys():
      close = difflib.get_close_matches(name, known, n=1)
      meant = f"; did you mean --{close[0]}?" if close else ""
      raise settings.UserError(f"{where}: unknown --{name}{meant}")
  return arguments


@contextlib.contextmanager
def _pipeline(
  runner: str, arguments: list[str]
) -> "Iterator[apache_beam.Pipeline]":
  """A pipeline, without the temporary folder that Beam leaves behind."""
  import apache_beam
  from apache_beam.options import pipeline_options

  options = pipeline_options.PipelineOptions(arguments)
  try:
    pipeline = apache_beam.Pipeline(runner, options)
  except Exception as error:  # The type depends on the options.
    raise settings.UserError(f"--beam_runner={runner}: {error}") from None
  try:
    yield pipeline
  finally:
    shutil.rmtree(pipeline.local_tempdir, ignore_errors=True)


def _run(
  runner: str,
  make_pipeline: Callable[
    [], contextlib.AbstractContextManager["apache_beam.Pipeline"]
  ],
  function: Callable[..., Any],
  tasks: Sequence[tuple[Any, ...]],
  scratch: paths.Path,
) -> Iterator[Any]:
  """See `workers.Runner`."""
  import apache_beam
  from apache_beam.runners.runner import PipelineState

  if not paths.is_remote(scratch):
    pathlib.Path(scratch).mkdir(exist_ok=True)
  _write(scratch, _TASKS, (function, tasks))
  with make_pipeline() as pipeline:
    numbers = pipeline | apache_beam.Create(range(len(tasks)))
    # Else Beam would run all tasks on one worker.
    spread = numbers | apache_beam.Reshuffle()
    _ = spread | "work" >> apache_beam.Map(functools.partial(_call, scratch))
    try:
      running = pipeline.run()
      try:
        state = running.wait_until_finish()
      except KeyboardInterrupt:
        running.cancel()  # Else a cluster continues the job.
        raise
    except Exception as error:
      state = f"{type(error).__name__}: {_last_line(str(error))}"
  if paths.exists(f"{scratch}/{_ERROR}"):
    raise _read(scratch, _ERROR)
  if state != PipelineState.DONE:
    raise settings.UserError(f"--beam_runner={runner}: failed: {state}")
  for number in range(len(tasks)):
    yield _read(scratch, str(number))


def _call(scratch: paths.Path, number: int) -> None:
  """Runs a task on a worker and writes its result to `scratch`."""
  if not paths.exists(f"{scratch}/{_TASKS}"):
    raise FileNotFoundError(
      f"{scratch} does not exist on a worker: --output must be a path that all"
      " machines can access"
    )
  if paths.exists(f"{scratch}/{_ERROR}"):
    return  # Another task failed.
  # Read again for each task: a source caches the last block that it read, and
  # threads that share a source would evict each other's blocks.
  function, tasks = _read(scratch, _TASKS)
  try:
    result = function(*tasks[number])
  except settings.UserError as error:
    # Not raised: Beam would retry the task and print a long traceback.
    _write(scratch, _ERROR, error)
  else:
    _write(scratch, str(number), result)


def _write(scratch: paths.Path, name: str, content: Any) -> None:
  with folders.staging(scratch, scratch) as folder:
    (folder / name).write_bytes(pickle.dumps(content))


def _read(scratch: paths.Path, name: str) -> Any:
  return pickle.loads(paths.read_bytes(f"{scratch}/{name}"))


def _last_line(text: str) -> str:
  lines = [line for line in text.splitlines() if any(map(str.isalpha, line))]
  return lines[-1].strip() if lines else ""

"""Work spread over machines by Apache Beam (the extra `beam`).

A task goes to a worker, and its result comes back, through files in a folder
that all machines see, for that works with every runner and any size of task;
through the pipeline itself go only the numbers of the tasks.
"""

import contextlib
import difflib
import functools
import io
import pathlib
import pickle
import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bert_jax import settings
from bert_jax.data.corpus import workers
from bert_jax.storage import folders, paths

if TYPE_CHECKING:
  import apache_beam

RUNNERS = ("DirectRunner", "DataflowRunner", "FlinkRunner", "SparkRunner")
# They ask their job server which options there are besides Beam's own.
_OPEN_RUNNERS = ("FlinkRunner", "SparkRunner")

_DEFAULTS = (
  # Or each worker says twenty lines at its start.
  "--default_sdk_harness_log_level=WARNING",
  # There are no triggers; without this the DirectRunner would first download
  # a program, which it then runs as well without.
  "--allow_unsafe_triggers",
)

_TASKS = "tasks"
_MISTAKE = "mistake"


def runner(name: str, options: str = "") -> workers.Runner:
  """What runs work by a Beam runner.

  Args:
    name: a name in `RUNNERS`.
    options: Beam's own pipeline options, as on a command line, for instance
      "--project=mine --region=europe-west4".

  Raises:
    UserError: Apache Beam is not installed, or the options are wrong.
  """
  settings.choice("--beam_runner", name, dict.fromkeys(RUNNERS))
  try:
    import apache_beam  # noqa: F401  An extra: only clusters need it.
  except ImportError as error:
    raise settings.UserError(
      f"--beam_runner needs Apache Beam: pip install 'bert_jax[beam]' ({error})"
    ) from None
  pipeline = functools.partial(_pipeline, name, _arguments(name, options))
  pipeline()  # What is wrong with it is to be told before any work.
  return functools.partial(_run, name, pipeline)


def _arguments(runner: str, options: str) -> list[str]:
  """Splits and checks pipeline options."""
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
  except SystemExit:  # As argparse does it.
    reason = _last_line(told.getvalue()).rpartition("error: ")[2]
    raise settings.UserError(f"{where}: {reason}") from None
  if runner not in _OPEN_RUNNERS:
    known = pipeline_options.PipelineOptions([]).get_all_options()
    for name in given.keys() - known.keys():
      close = difflib.get_close_matches(name, known, n=1)
      meant = f"; did you mean --{close[0]}?" if close else ""
      raise settings.UserError(f"{where}: unknown --{name}{meant}")
  return arguments


def _pipeline(runner: str, arguments: list[str]) -> "apache_beam.Pipeline":
  import apache_beam
  from apache_beam.options import pipeline_options

  options = pipeline_options.PipelineOptions(arguments)
  try:
    return apache_beam.Pipeline(runner, options)
  except Exception as error:  # Of many types, by what the options lead to.
    raise settings.UserError(f"--beam_runner={runner}: {error}") from None


def _run(
  runner: str,
  make_pipeline: Callable[[], "apache_beam.Pipeline"],
  function: Callable[..., Any],
  tasks: Sequence[tuple[Any, ...]],
  scratch: paths.Path,
) -> Iterator[Any]:
  """See `workers.Runner`.

  Raises:
    UserError: a task raised it, or the pipeline failed.
  """
  import apache_beam
  from apache_beam.runners.runner import PipelineState

  if not paths.is_remote(scratch):
    pathlib.Path(scratch).mkdir(exist_ok=True)
  _write(scratch, _TASKS, (function, tasks))
  pipeline = make_pipeline()
  numbers = pipeline | apache_beam.Create(range(len(tasks)))
  # Or one worker would do all that one step has made.
  spread = numbers | apache_beam.Reshuffle()
  _ = spread | "work" >> apache_beam.Map(functools.partial(_call, scratch))
  try:
    running = pipeline.run()
    try:
      state = running.wait_until_finish()
    except KeyboardInterrupt:
      running.cancel()  # Or a cluster would go on.
      raise
  except Exception as error:
    state = f"{type(error).__name__}: {_last_line(str(error))}"
  if paths.exists(f"{scratch}/{_MISTAKE}"):
    raise _read(scratch, _MISTAKE)
  if state != PipelineState.DONE:
    raise settings.UserError(f"--beam_runner={runner}: failed: {state}")
  for number in range(len(tasks)):
    yield _read(scratch, str(number))


def _call(scratch: paths.Path, number: int) -> None:
  """Does a task and leaves its result in `scratch`; runs on the workers."""
  if not paths.exists(f"{scratch}/{_TASKS}"):
    raise FileNotFoundError(
      f"{scratch} is not there on a worker: --output must be a path that all"
      " machines see"
    )
  if paths.exists(f"{scratch}/{_MISTAKE}"):
    return  # What is left to do would be for nothing.
  # For each task anew: a source keeps what it read last, and threads that
  # share one would read everything many times.
  function, tasks = _read(scratch, _TASKS)
  try:
    result = function(*tasks[number])
  except settings.UserError as error:
    # Not to Beam, which would try again and say it in forty lines.
    _write(scratch, _MISTAKE, error)
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

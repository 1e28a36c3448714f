"""Functions whose compiled programs outlive the process."""

import contextlib
import copy
import hashlib
import os
import pathlib
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, NamedTuple, Self

import jax
import jaxlib
from jax.experimental import serialize_executable
from jaxlib import utils

from bert_jax.storage import compiled

_CHECKSUM = hashlib.sha256
# Held by `_quiet`, which sets a log level of the whole process.
_loading = threading.Lock()
# They wait for XLA, which holds no lock of Python's.
_threads = futures.ThreadPoolExecutor(os.cpu_count(), "compile")


class _Program(NamedTuple):
  traced: jax.stages.Traced  # Keeps its jaxpr, whose id is the key, alive.
  compiled: "futures.Future[jax.stages.Compiled]"


class CachedFunction:
  """A jitted function that compiles in threads, and keeps its programs.

  Programs for a single device are kept in the folder of `storage.compiled`, by
  a hash of the lowered function, the versions and JAX's settings. So a changed
  model or library compiles anew, and nothing of JAX's is set for other code.
  They are not where JAX's own cache has a folder (`jax_compilation_cache_dir`),
  which then has the program, or is off (`jax_enable_compilation_cache`).
  """

  def __init__(self, function: Callable[..., Any], *fixed: Any):
    """Compiles nothing yet.

    Args:
      function: of arrays, without static arguments.
      *fixed: its first arguments, which are the same in all calls.
    """
    # Which arguments are unused is not in the lowered function, the key.
    self._jitted = jax.jit(function, keep_unused=True)
    self._fixed = fixed
    self._identity = jax.jit(lambda *args: args)
    self._programs: dict[int, _Program] = {}
    self._lock = threading.Lock()

  def with_fixed(self, *fixed: Any) -> Self:
    """The same programs for other first arguments of the same shapes."""
    made = copy.copy(self)
    made._fixed = fixed
    return made

  def prepare(self, *args: Any) -> Callable[[], Any]:
    """Starts to compile for arguments of these shapes, unless it did before.

    On accelerators it also waits, since compilers measure kernels on them.

    Returns:
      A function that computes the outputs for these arguments.
    """
    run = self.program(*args)
    return lambda: run(*args)

  def program(self, *args: Any) -> Callable[..., Any]:
    """As `prepare`; the function takes any arguments of these shapes."""
    # JAX keeps what it has traced, for each of its settings. Without the fixed
    # arguments, which may be many, it is found faster.
    traced = self._identity.trace(*args)
    key = id(traced.jaxpr)
    with self._lock:
      known = self._programs.get(key)
      # What failed, for want of memory maybe, is tried again.
      if known is None or _failed(known.compiled):
        compiling = self._start(*self._fixed, *args)
        self._programs[key] = _Program(traced, compiling)
      program = self._programs[key].compiled
    return lambda *args: program.result()(*self._fixed, *args)

  def __call__(self, *args: Any) -> Any:
    """The function's outputs."""
    return self.prepare(*args)()

  def _start(self, *args: Any) -> "futures.Future[jax.stages.Compiled]":
    devices = _devices(args)
    lowered = self._jitted.trace(*args).lower()
    compiling = _threads.submit(_compile, lowered, devices)
    if any(device.platform != "cpu" for device in devices):
      futures.wait([compiling])
    return compiling


def _failed(compiling: "futures.Future[Any]") -> bool:
  return compiling.done() and compiling.exception() is not None


def _devices(args: Any) -> list[jax.Device]:
  arrays = [x for x in jax.tree.leaves(args) if isinstance(x, jax.Array)]
  return [*{device for x in arrays for device in x.devices()}]


def _compile(
  lowered: jax.stages.Lowered, devices: list[jax.Device]
) -> jax.stages.Compiled:
  path = _path(lowered, devices)
  if path is None:
    return lowered.compile()
  # Whatever is wrong with a kept program, it can be compiled.
  with contextlib.suppress(Exception):
    return _load(path, lowered, devices)
  program = lowered.compile()
  # Not every platform can serialize every program, and disks are full.
  with contextlib.suppress(Exception):
    _save(path, program)
  return program


def _path(
  lowered: jax.stages.Lowered, devices: list[jax.Device]
) -> pathlib.Path | None:
  """The file of a program; None if it is not to be kept."""
  config = jax.config
  if (
    len(devices) != 1
    or config.jax_default_device is not None
    or config.jax_compilation_cache_dir
    or not config.jax_enable_compilation_cache
    or (folder := compiled.folder()) is None
  ):
    return None
  (device,) = devices
  content = (
    lowered.as_text(),
    lowered.args_info,
    lowered.out_info,
    jax.__version__,
    jaxlib.__version__,
    device.client.platform_version,
    device.device_kind,
    device.id,
    sorted(config.values.items()),
    [os.environ.get(name) for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")],
  )
  return folder / f"{_CHECKSUM(repr(content).encode()).hexdigest()}-program"


def _load(
  path: pathlib.Path, lowered: jax.stages.Lowered, devices: list[jax.Device]
) -> jax.stages.Compiled:
  content = path.read_bytes()
  size = _CHECKSUM().digest_size
  checksum, data = content[:size], content[size:]
  if _CHECKSUM(data).digest() != checksum:
    raise ValueError(f"{path}: damaged")
  with _loading, _quiet():
    return serialize_executable.deserialize_and_load(
      data,
      lowered.in_tree,
      lowered.out_tree,
      backend=devices[0].client,
      execution_devices=devices,
    )


def _save(path: pathlib.Path, program: jax.stages.Compiled) -> None:
  data, _, _ = serialize_executable.serialize(program)
  partial = path.with_name(f"{path.name}.{uuid.uuid4()}.partial")
  try:
    partial.write_bytes(_CHECKSUM(data).digest() + data)
    partial.replace(path)
  finally:
    partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Silences XLA, which mistakes its compiler's preferences for features.

  It then warns in 3 kB that this processor lacks them.
  """
  utils.absl_set_min_log_level(3)
  try:
    yield
  finally:
    # JAX sets the variable when it is imported.
    level = os.environ.get("TF_CPP_MIN_LOG_LEVEL", "")
    utils.absl_set_min_log_level(int(level) if level.isdigit() else 1)

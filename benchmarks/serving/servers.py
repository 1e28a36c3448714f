"""Servers in processes of their own, and what they take."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence

from benchmarks.runner import ROOT

MODEL = "minilm"
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Server:
  """A server on a free port of 127.0.0.1, held to some cores.

  Attributes:
    port: where it listens.
    start_seconds: from the start of the process until it was ready.
  """

  def __init__(
    self, command: Sequence[str], port: int, ready: str, cores: set[int]
  ):
    self.port, self._ready_path = port, ready
    self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
    environment = {
      **os.environ,
      "HF_HUB_OFFLINE": "1",
      "INFINITY_ANONYMOUS_USAGE_STATS": "0",
      "JAX_PLATFORMS": "cpu",
      "PYTHONPATH": str(ROOT),
      "TOKENIZERS_PARALLELISM": "false",
    }
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
      environment[name] = str(len(cores))
    began = time.perf_counter()
    self.process = subprocess.Popen(
      command,
      cwd=ROOT,
      env=environment,
      stdout=self._log,
      stderr=subprocess.STDOUT,
      preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    try:
      while not self.is_ready():
        if self.process.poll() is not None:
          raise SystemExit(f"error: {' '.join(command)}:\n{self.log()[-2000:]}")
        if time.perf_counter() - began > 180:
          raise SystemExit(f"error: {' '.join(command)}: not ready in 180 s")
        time.sleep(0.02)
    except BaseException:
      self.stop()
      raise
    self.start_seconds = time.perf_counter() - began

  def is_ready(self) -> bool:
    """Whether it says that it is ready."""
    try:
      return self.get(self._ready_path)[0] == 200
    except OSError:
      return False

  def get(self, path: str) -> tuple[int, str]:
    """The status and the body of a GET."""
    try:
      with urllib.request.urlopen(
        f"http://127.0.0.1:{self.port}{path}", timeout=5
      ) as answer:
        return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
      return error.code, error.read().decode()

  def log(self) -> str:
    """What it printed."""
    self._log.seek(0)
    return self._log.read()

  def processor_seconds(self) -> float:
    """Processor time of the process and its children."""
    total = 0
    for pid in _tree(self.process.pid):
      fields = _stat(pathlib.Path(f"/proc/{pid}/stat"))
      total += int(fields[11]) + int(fields[12]) if fields else 0
    return total / _TICKS

  def thread_seconds(self) -> dict[str, float]:
    """Processor time of each thread of the process."""
    tasks = pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()
    return {
      path.name: (int(fields[11]) + int(fields[12])) / _TICKS
      for path in tasks
      if (fields := _stat(path / "stat"))
    }

  def memory(self) -> int:
    """Resident memory of the process and its children, in bytes."""
    return sum(
      int(path.read_text().split()[1]) * _PAGE
      for pid in _tree(self.process.pid)
      if (path := pathlib.Path(f"/proc/{pid}/statm")).exists()
    )

  def stop(self) -> int:
    """Ends it; its exit code."""
    if self.process.poll() is None:
      self.process.send_signal(signal.SIGTERM)
    try:
      return self.process.wait(60)
    except subprocess.TimeoutExpired:
      self.process.kill()
      return self.process.wait()


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
  """Stops the server at the end."""
  try:
    yield server
  finally:
    server.stop()


def ours(where: str, cores: set[int], *flags: str) -> Server:
  """`launch.serve` with an export or a folder of versions."""
  port = free_port()
  command = [sys.executable, "-m", "launch.serve", f"--model={MODEL}={where}"]
  command += [f"--port={port}", f"--threads={len(cores)}", *flags]
  return Server(command, port, "/ready", cores)


def infinity(python: str, folder: str, cores: set[int]) -> Server:
  """Infinity with its PyTorch engine, in float32."""
  port = free_port()
  program = pathlib.Path(python).parent / "infinity_emb"
  command = [str(program), "v2", "--model-id", folder, "--engine", "torch"]
  command += ["--device", "cpu", "--dtype", "float32", "--url-prefix", "/v1"]
  command += ["--served-model-name", MODEL, "--host", "127.0.0.1"]
  command += [
    "--port",
    str(port),
    "--log-level",
    "error",
    "--no-bettertransformer",
  ]
  return Server(command, port, "/v1/models", cores)


def free_port() -> int:
  """A port of 127.0.0.1 that nothing listens on."""
  with socket.socket() as found:
    found.bind(("127.0.0.1", 0))
    return found.getsockname()[1]


def _stat(path: pathlib.Path) -> list[str]:
  """The fields of a file `stat` of /proc after the name; empty if it ended."""
  try:
    text = path.read_text()
  except OSError:
    return []
  return text.rsplit(")", 1)[1].split()


def _tree(pid: int) -> list[int]:
  """A process and its children."""
  parents = {
    int(path.name): int(fields[1])
    for path in pathlib.Path("/proc").iterdir()
    if path.name.isdigit() and (fields := _stat(path / "stat"))
  }
  found = [pid]
  for one in found:
    found += [child for child, parent in parents.items() if parent == one]
  return found

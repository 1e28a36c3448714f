"""Whole servers, as processes."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from bert_jax import exported
from bert_jax.export import folder as exports
from bert_jax.tasks.targets.target import to_json
from tests import commands
from tests.tasks import cases

RECORD = cases.RECORDS["classification"]
BODY = json.dumps({"inputs": [RECORD]})


@pytest.fixture(scope="module")
def export(tmp_path_factory):
  where = tmp_path_factory.mktemp("exports")
  exports.export(cases.model("classification"), where / "onnx", "onnx")
  return where / "onnx"


class Server:
  """A process of `launch.serve`, and its log."""

  def __init__(self, *flags):
    command = [sys.executable, "-m", "launch.serve", "--port=0", *flags]
    self.process = subprocess.Popen(
      command, cwd=commands.ROOT, stderr=subprocess.PIPE, text=True
    )
    self.events, self._changed = [], threading.Condition()
    self.is_stopping = False
    threading.Thread(target=self._read, daemon=True).start()

  def _read(self):
    for line in self.process.stderr:
      with self._changed:
        self.events.append(json.loads(line))
        self._changed.notify_all()

  def wait_for(self, event, count=1):
    """The last of so many events of a name."""

    def found():
      return [x for x in self.events if x["event"] == event]

    with self._changed:
      assert self._changed.wait_for(lambda: len(found()) >= count, 60), (
        self.events
      )
      return found()[-1]

  def post(self, path, body=BODY, kind="listening"):
    """The status and the answer of one request on a connection of its own."""
    port = self.wait_for(kind)["port"]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
      method = "GET" if body is None else "POST"
      headers = {"Content-Type": "application/json"}
      connection.request(method, path, body, headers)
      response = connection.getresponse()
      text = response.read().decode()
    is_json = text.startswith(("{", "["))
    return response.status, json.loads(text) if is_json else text

  def predict(self):
    status, found = self.post("/v1/m/predict")
    assert status == 200, found
    return found["version"], found["answers"][0]

  def stop(self):
    self.is_stopping = True
    self.process.send_signal(signal.SIGTERM)
    return self.process.wait(60)

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.process.kill()
    self.process.wait()


@contextlib.contextmanager
def load(server):
  """Clients that keep their connections; the outcomes of their requests."""
  port, outcomes = server.wait_for("listening")["port"], []
  stop = threading.Event()

  def client():
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while not stop.is_set():
      is_new = connection.sock is None
      try:
        connection.request(
          "POST", "/v1/m/predict", BODY, {"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        response.read()
        outcomes.append(response.status)
      except ConnectionRefusedError:
        return  # The server takes no more connections.
      except (OSError, http.client.HTTPException) as error:
        is_reset = type(error) is ConnectionResetError
        if is_reset and is_new and server.is_stopping:
          # The kernel took it while the last listener was being closed, which
          # no server can prevent; for clients it is the same as refused.
          return
        outcomes.append(repr(error))
        connection.close()

  threads = [threading.Thread(target=client) for _ in range(4)]
  for thread in threads:
    thread.start()
  try:
    yield outcomes
  finally:
    stop.set()
    for thread in threads:
      thread.join()


def test_a_server_from_its_start_to_its_end(export, tmp_path):
  versions = tmp_path / "versions"
  shutil.copytree(export, versions / "1")
  with Server(
    f"--model=m={versions}",
    "--admin_port=0",
    "--poll_interval=0.05",
    "--drain_delay=0.2",
  ) as server:
    server.wait_for("ready")
    version, answer = server.predict()
    assert version == "1"
    expected = json.dumps(exported.load(export)(RECORD), default=to_json)
    cases.assert_same(answer, json.loads(expected))
    # Not imported: it would take more memory than the rest.
    maps = f"/proc/{server.process.pid}/maps"
    if os.path.exists(maps):
      with open(maps) as file:
        assert "jaxlib" not in file.read()
    with load(server) as outcomes:
      shutil.copytree(export, tmp_path / "copy")
      (tmp_path / "copy").rename(versions / "2")
      assert server.wait_for("serving", 2)["version"] == "2"
      assert server.predict()[0] == "2"
      status, found = server.post(
        "/models/m/roll_back", '{"version": "1"}', "admin listening"
      )
      assert (status, found["models"]["m"]["active"]["version"]) == (200, "1")
      assert server.predict()[0] == "1"
      assert server.stop() == 0
    # None was lost, whenever it came.
    assert {*outcomes} == {200}


def test_a_worker_that_dies_is_replaced(export):
  with Server(
    f"--model=m={export}", "--workers=2", "--threads=1", "--drain_delay=0.2"
  ) as server:
    server.wait_for("ready", 2)
    children = f"/proc/{server.process.pid}/task/{server.process.pid}/children"
    if not os.path.exists(children):
      pytest.skip("this kernel does not list the children of a process")
    with open(children) as file:
      first, _ = map(int, file.read().split())
    os.kill(first, signal.SIGKILL)
    assert server.wait_for("worker ended")["pid"] == first
    with load(server) as outcomes:
      server.wait_for("ready", 3)
      status, text = server.post("/metrics", None)
      # Of both workers together.
      assert 'model_info{engine="onnx",model="m",' in text
      assert "process_resident_memory_bytes" in text and status == 200
      while len(outcomes) < 20:
        time.sleep(0.01)
      assert server.stop() == 0
    assert {*outcomes} == {200}


@pytest.mark.parametrize(
  "flags, message",
  [
    (["--model=m"], "--model m: expected NAME=WHERE"),
    (["--model=m=a", "--model=m=b"], "two models m"),
    (["--model=m=HERE/missing"], "missing: there is no such file or folder"),
    (
      ["--model=m=HERE", "--workers=0"],
      "--workers: expected at least 1, got 0",
    ),
    (
      ["--model=m=HERE", "--canary_weight=2"],
      "--canary_weight: expected from 0",
    ),
    (["--model=m=HERE", "--port=70000"], "--port: expected 0 to 65535"),
    (["--model=m=HERE", "--host=203.0.113.1"], "cannot listen on 203.0.113.1"),
    (["--model=m=HERE", "--tls_key=k"], "--tls_certificate and tls_key go"),
    (["--model=m=HERE", "--engine=tpu"], "--engine"),
  ],
)
def test_wrong_flags_are_one_line(tmp_path, flags, message):
  flags = [flag.replace("HERE", str(tmp_path)) for flag in flags]
  assert message in commands.mistake("serve", *flags)

"""Looks at the monitoring with a real server and a real Prometheus.

  apt-get install prometheus
  python launch/deploy/monitoring.py EXPORT

Starts a server of the export, and Prometheus with the configuration of this
folder, on free ports of 127.0.0.1; sends requests, right and wrong ones, for a
while; and prints the value of every query of the dashboard and every alert. The
exit code is 1 if a query of the dashboard has no value or an alert cannot be
evaluated.
"""

import argparse
import contextlib
import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

_HERE = pathlib.Path(__file__).parent
_ROOT = _HERE.parents[1]
_MODEL = "minilm"
# What Grafana puts in place of its variables.
_VARIABLES = {
  "$__rate_interval": "20s",
  "$instance": ".*",
  "$model": ".*",
}


def _free_port() -> int:
  with socket.socket() as found:
    found.bind(("127.0.0.1", 0))
    return found.getsockname()[1]


def _get(url: str, body: bytes | None = None) -> tuple[int, str]:
  request = urllib.request.Request(
    url, body, {"Content-Type": "application/json"}
  )
  try:
    with urllib.request.urlopen(request, timeout=30) as answer:
      return answer.status, answer.read().decode()
  except urllib.error.HTTPError as error:
    return error.code, error.read().decode()


@contextlib.contextmanager
def _running(command: Sequence[str], ready: str) -> Iterator[None]:
  """A process, from when it answers at `ready` with 200."""
  with tempfile.TemporaryFile("w+") as log:
    process = subprocess.Popen(
      command, cwd=_ROOT, stdout=log, stderr=subprocess.STDOUT
    )
    try:
      for _ in range(300):
        with contextlib.suppress(OSError):
          if _get(ready)[0] == 200:
            break
        if process.poll() is not None:
          log.seek(0)
          raise SystemExit(f"error: {command[0]}: {log.read()[-2000:]}")
        time.sleep(0.2)
      else:
        raise SystemExit(f"error: {command[0]}: not ready in a minute")
      yield
    finally:
      process.terminate()
      process.wait(60)


def _configuration(folder: pathlib.Path, port: int) -> pathlib.Path:
  """The configuration of Prometheus, for this server and scraped often."""
  text = (_HERE / "prometheus" / "prometheus.yml").read_text()
  changed = text.replace("server:8080", f"127.0.0.1:{port}").replace(
    "15s", "2s"
  )
  assert changed != text
  path = folder / "prometheus.yml"
  path.write_text(changed)
  (folder / "alerts.yml").write_bytes(
    (_HERE / "prometheus" / "alerts.yml").read_bytes()
  )
  return path


def _send(server: str, seconds: float) -> dict[int, int]:
  """Requests for some time, of which some are wrong; answers by status."""
  url, found = f"{server}/v1/embeddings", {}
  end, number = time.monotonic() + seconds, 0
  while time.monotonic() < end:
    texts = [f"text {number} of the load"] * (1 + number % 8)
    body = json.dumps({"model": _MODEL, "input": texts}).encode()
    if number % 10 == 0:
      body = b'{"model": "minilm"'
    elif number % 25 == 1:
      body = b'{"model": "unknown", "input": "a"}'
    status, _ = _get(url, body)
    found[status] = found.get(status, 0) + 1
    number += 1
    time.sleep(0.02)
  return found


def _query(prometheus: str, query: str) -> list[dict[str, Any]]:
  status, text = _get(
    f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
  )
  if status != 200:
    raise SystemExit(f"error: {query}: {text}")
  return json.loads(text)["data"]["result"]


def queries(dashboard: Any) -> Iterator[tuple[str, str]]:
  """The title of each panel, with each of its queries for Prometheus."""
  for panel in dashboard["panels"]:
    for target in panel["targets"]:
      query = target["expr"]
      for name, value in _VARIABLES.items():
        query = query.replace(name, value)
      yield panel["title"], query


def main() -> int:
  """Runs all, and prints the values."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("export")
  parser.add_argument("--seconds", type=float, default=30)
  arguments = parser.parse_args()
  where = pathlib.Path(arguments.export).resolve()
  board = json.loads((_HERE / "grafana/dashboards/bert_jax.json").read_text())
  server, prometheus = (f"http://127.0.0.1:{_free_port()}" for _ in range(2))
  port = int(server.rsplit(":", 1)[1])
  command = [sys.executable, "-m", "launch.serve"]
  command += [f"--model={_MODEL}={where}", f"--port={port}", "--threads=1"]
  empty = 0
  with (
    tempfile.TemporaryDirectory() as name,
    _running(command, f"{server}/ready"),
    _running(
      [
        "prometheus",
        f"--config.file={_configuration(pathlib.Path(name), port)}",
        f"--storage.tsdb.path={name}/data",
        f"--web.listen-address={prometheus.removeprefix('http://')}",
      ],
      f"{prometheus}/-/ready",
    ),
  ):
    print(f"answers by status: {_send(server, arguments.seconds)}")
    time.sleep(3)
    for title, query in queries(board):
      found = _query(prometheus, query)
      values = [
        f"{' '.join(x['metric'].values())} {float(x['value'][1]):.4g}".strip()
        for x in found
      ]
      usable = any(not value.endswith("nan") for value in values)
      empty += not usable
      mark = " " if usable else "!"
      print(f"{mark} {title}: {'; '.join(values) or 'no value'}")
    rules = json.loads(_get(f"{prometheus}/api/v1/rules")[1])["data"]["groups"]
    for rule in (rule for group in rules for rule in group["rules"]):
      print(f"alert {rule['name']}: {rule['health']}, {rule['state']}")
      empty += rule["health"] != "ok"
    scraped = json.loads(_get(f"{prometheus}/api/v1/targets")[1])
    for target in scraped["data"]["activeTargets"]:
      url = re.sub(r"\d+", "N", target["scrapeUrl"])
      print(f"target {url}: {target['health']} {target['lastError']}")
  return int(empty > 0)


if __name__ == "__main__":
  sys.exit(main())

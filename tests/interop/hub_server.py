"""A local server with the API of the Hugging Face Hub."""

import contextlib
import dataclasses
import hashlib
import http.server
import json
import threading
import urllib.parse
from collections.abc import Mapping

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclasses.dataclass
class Hub:
  """Repositories of one commit each, and the faults of the server."""

  # The contents of files by repository and path.
  repositories: Mapping[str, Mapping[str, bytes]]
  # The names of the commit.
  revisions: tuple[str, ...] = ("main", COMMIT)
  # The bytes after which a file's connection breaks, and how many times.
  cuts: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
  # The status and the error code of all answers about a repository.
  errors: dict[str, tuple[int, str]] = dataclasses.field(default_factory=dict)
  # The required access token.
  token: str | None = None
  # The method, path and range of each request so far.
  requests: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)
  url: str = ""

  def gets(self, file):
    """The ranges of the GETs of a file; "" is the whole."""
    return [
      bytes_range
      for method, path, bytes_range in self.requests
      if method == "GET" and path.endswith(f"/{file}")
    ]


@contextlib.contextmanager
def serve(repositories, **settings):
  """Serves on a free port of the loopback interface."""
  hub = Hub(repositories, **settings)

  class Handler(_Handler):
    pass

  Handler.hub = hub
  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  server.daemon_threads = True
  hub.url = f"http://127.0.0.1:{server.server_port}"
  thread = threading.Thread(target=server.serve_forever, args=(0.01,))
  thread.start()
  try:
    yield hub
  finally:
    server.shutdown()
    server.server_close()
    thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
  hub: Hub
  protocol_version = "HTTP/1.1"
  wbufsize = -1  # Headers and body leave as one packet.

  def do_HEAD(self):
    self.do_GET()

  def do_GET(self):
    path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
    bytes_range = self.headers.get("Range", "")
    self.hub.requests.append((self.command, path, bytes_range))
    is_api = path.startswith("/api/models/")
    parts = path.removeprefix("/api/models").split("/")[1:]
    verbs = ("revision", "tree") if is_api else ("resolve",)
    at = next((i for i, part in enumerate(parts) if part in verbs), len(parts))
    name, verb = "/".join(parts[:at]), "".join(parts[at : at + 1])
    files = self.hub.repositories.get(name)
    if name in self.hub.errors:
      self.fail(*self.hub.errors[name])
    elif files is None:
      self.fail(404, "RepoNotFound")
    elif self.hub.token and (
      self.headers.get("Authorization") != f"Bearer {self.hub.token}"
    ):
      self.fail(401, "")
    elif verb and (parts[at + 1 : at + 2] or [""])[0] not in self.hub.revisions:
      self.fail(404, "RevisionNotFound")
    elif verb == "resolve":
      self.send_file("/".join(parts[at + 2 :]), files)
    elif verb == "tree":
      self.send_json([entry(path, data) for path, data in files.items()])
    else:
      siblings = [{"rfilename": path} for path in files]
      self.send_json({"id": name, "sha": COMMIT, "siblings": siblings})

  def send_file(self, path, files):
    if path not in files:
      self.fail(404, "EntryNotFound")
      return
    data = whole = files[path]
    bytes_range = self.headers.get("Range")
    if bytes_range:
      start = int(bytes_range.removeprefix("bytes=").split("-")[0])
      data = whole[start:]
    self.send_response(206 if bytes_range else 200)
    self.send_header("X-Repo-Commit", COMMIT)
    self.send_header("ETag", f'"{hashlib.sha256(whole).hexdigest()}"')
    self.send_header("Content-Length", str(len(data)))
    if bytes_range:
      place = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
      self.send_header("Content-Range", place)
    self.end_headers()
    if self.command == "HEAD":
      return
    after, times = self.hub.cuts.get(path, (0, 0))
    if times:
      self.hub.cuts[path] = (after, times - 1)
      data = data[:after]
      self.close_connection = True
    self.wfile.write(data)

  def send_json(self, content):
    data = json.dumps(content).encode()
    self.send_response(200)
    self.send_header("Content-Type", "application/json")
    self.send_header("Content-Length", str(len(data)))
    self.end_headers()
    if self.command != "HEAD":
      self.wfile.write(data)

  def fail(self, status, code):
    self.send_response(status)
    if code:
      self.send_header("X-Error-Code", code)
    self.send_header("Content-Length", "0")
    self.end_headers()

  def log_message(self, *arguments):
    """Nothing: the tests look at `requests`."""


def entry(path, data):
  """The entry of a file in a listing of the Hub."""
  digest = hashlib.sha1(data).hexdigest()
  return {"type": "file", "path": path, "size": len(data), "oid": digest}

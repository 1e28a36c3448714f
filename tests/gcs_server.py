"""A store on this machine that answers as Google's does, in memory.

As much of the JSON API of Cloud Storage as gcsfs and TensorStore ask for:
https://cloud.google.com/storage/docs/json_api
"""

import base64
import contextlib
import email.parser
import hashlib
import http.server
import itertools
import json
import re
import threading
import urllib.parse


class Server(http.server.ThreadingHTTPServer):
  """Buckets, each a mapping from names to contents and generations."""

  daemon_threads = True

  def __init__(self):
    super().__init__(("127.0.0.1", 0), _Handler)
    self.buckets = {}
    self.lock = threading.Lock()
    self.generations = itertools.count(1)
    self.uploads = {}

  def handle_error(self, request, client_address):
    """Clients go away as they like."""

  @property
  def url(self):
    return f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def running():
  """A server, and the variables by which its clients find it."""
  server = Server()
  threading.Thread(target=server.serve_forever, daemon=True).start()
  try:
    yield server
  finally:
    server.shutdown()
    server.server_close()


def variables(server):
  return {
    "STORAGE_EMULATOR_HOST": server.url,
    "FSSPEC_GCS_TOKEN": "anon",
    # It would ask Google by gRPC what kind of bucket each is.
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    "TENSORSTORE_GCS_HTTP_URL": server.url,
    "GOOGLE_AUTH_TOKEN_FOR_TESTING": "token",
  }


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = "HTTP/1.1"
  # Headers and body leave as one packet: a second one would wait 40 ms for the
  # client's delayed acknowledgement of the first.
  wbufsize = -1

  def log_message(self, *_):
    pass

  def do_GET(self):
    self._answer()

  do_POST = do_PUT = do_DELETE = do_GET

  def _answer(self):
    size = int(self.headers.get("Content-Length", 0))
    body = self.rfile.read(size)
    if self.headers.get("Transfer-Encoding") == "chunked":
      body = self._chunks()
    with self.server.lock:
      status, headers, reply = self._route(self.command, self.path, body)
    if status in (204, 304):
      reply = b""  # They have none, and a client would take it for the next.
    if isinstance(reply, dict):
      headers["Content-Type"] = "application/json"
      reply = json.dumps(reply).encode()
    self.send_response(status)
    for name, value in {**headers, "Content-Length": len(reply)}.items():
      self.send_header(name, str(value))
    self.end_headers()
    self.wfile.write(reply)

  def _chunks(self):
    data = b""
    while size := int(self.rfile.readline(), 16):
      data += self.rfile.read(size)
      self.rfile.readline()
    self.rfile.readline()
    return data

  def _route(self, method, path, body):
    url = urllib.parse.urlsplit(path)
    query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
    if url.path == "/batch/storage/v1":
      return self._batch(body)
    found = re.fullmatch(
      r"(?:/upload|/download)?/storage/v1/b/([^/]+)(?:/o(?:/(.+))?)?", url.path
    )
    bucket, name = (x and urllib.parse.unquote(x) for x in found.groups())
    if bucket not in self.server.buckets:
      return 404, {}, {"error": {"code": 404, "message": "no such bucket"}}
    objects = self.server.buckets[bucket]
    if url.path.startswith("/upload"):
      return self._upload(method, objects, bucket, query, body)
    if name is None:
      is_bucket = not url.path.endswith("/o")
      reply = {"name": bucket} if is_bucket else _listed(objects, bucket, query)
      return 200, {}, reply
    if (failed := _condition(objects, name, query)) is not None:
      return failed, {}, {}
    if name not in objects:
      return 404, {}, {"error": {"code": 404, "message": "no such object"}}
    if method == "DELETE":
      del objects[name]
      return 204, {}, b""
    if query.get("alt") == "media":
      return self._content(*objects[name])
    return 200, {}, _described(objects, bucket, name)

  def _content(self, content, generation):
    headers = {"x-goog-generation": generation, "ETag": f'"{generation}"'}
    ranged = re.fullmatch(
      r"bytes=(\d*)-(\d*)", self.headers.get("Range", "bytes=0-")
    )
    first, last = ranged.groups()
    start = int(first) if first else max(len(content) - int(last), 0)
    stop = int(last) + 1 if first and last else len(content)
    part = content[start:stop]
    if "Range" not in self.headers:
      return 200, headers, part
    if not part:
      return 416, headers, b""
    there = f"bytes {start}-{start + len(part) - 1}/{len(content)}"
    return 206, {**headers, "Content-Range": there}, part

  def _upload(self, method, objects, bucket, query, body):
    kind, name = query.get("uploadType"), query.get("name")
    if kind == "resumable" and method == "POST":
      key = str(len(self.server.uploads))
      self.server.uploads[key] = name or json.loads(body)["name"], b""
      where = f"{self.server.url}/upload/storage/v1/b/{bucket}/o"
      return 200, {"Location": f"{where}?upload_id={key}"}, {}
    if "upload_id" in query:
      name, before = self.server.uploads[query["upload_id"]]
      there = self.headers.get("Content-Range", "bytes 0-/")
      start = re.match(r"bytes (\d+)-", there)  # Or `*`: how much has come?
      body = before[: int(start[1])] + body if start else before
      self.server.uploads[query["upload_id"]] = name, body
      if there.endswith("*"):
        return 308, {"Range": f"bytes=0-{len(body) - 1}"}, b""
    if kind == "multipart":
      head = f"Content-Type: {self.headers['Content-Type']}\n\n".encode()
      boundary = email.parser.BytesHeaderParser().parsebytes(head)
      edge = b"--" + boundary.get_param("boundary").encode()
      newline = b"\r\n" if edge + b"\r\n" in body[:999] else b"\n"
      _, described, content = body.split(edge + newline, 2)
      described = described.partition(2 * newline)[2]
      name = json.loads(described)["name"]
      content = content.partition(2 * newline)[2]
      body = content.rpartition(newline + edge + b"--")[0]
    if (failed := _condition(objects, name, query)) is not None:
      return failed, {}, {}
    objects[name] = body, next(self.server.generations)
    return 200, {}, _described(objects, bucket, name)

  def _batch(self, body):
    edge, parts = "batch", []
    for path in re.findall(r"^DELETE (\S+) HTTP", body.decode(), re.M):
      status, _, _ = self._route("DELETE", path, b"")
      parts.append(f"--{edge}\r\n\r\nHTTP/1.1 {status} X\r\n\r\n")
    kind = f"multipart/mixed; boundary={edge}"
    return 200, {"Content-Type": kind}, f"{''.join(parts)}--{edge}--".encode()


def _condition(objects, name, query):
  """The status of a condition that does not hold."""
  generation = objects[name][1] if name in objects else 0
  if query.get("ifGenerationMatch", str(generation)) != str(generation):
    return 412
  if query.get("ifGenerationNotMatch") == str(generation):
    return 304
  return None


def _described(objects, bucket, name):
  content, generation = objects[name]
  return {
    "kind": "storage#object",
    "bucket": bucket,
    "name": name,
    "size": str(len(content)),
    "generation": str(generation),
    "metageneration": "1",
    "etag": str(generation),
    "md5Hash": base64.b64encode(hashlib.md5(content).digest()).decode(),
    "timeCreated": "2024-01-01T00:00:00.000Z",
    "updated": "2024-01-01T00:00:00.000Z",
  }


def _listed(objects, bucket, query):
  prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
  items, prefixes = [], set()
  for name in sorted(objects):
    if not (
      name.startswith(prefix)
      and query.get("startOffset", "") <= name
      and ("endOffset" not in query or name < query["endOffset"])
    ):
      continue
    inner, found, _ = name[len(prefix) :].partition(delimiter or "\0")
    if delimiter and found:
      prefixes.add(prefix + inner + delimiter)
    else:
      items.append(_described(objects, bucket, name))
  found = {"items": items, "prefixes": sorted(prefixes)}
  return {"kind": "storage#objects", **{k: v for k, v in found.items() if v}}

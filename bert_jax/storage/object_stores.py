"""Object stores, `gs://` and `s3://`, and what may go wrong with them.

`gcsfs` and `s3fs` find credentials and endpoints as Google's and Amazon's own
tools do, and take further settings from fsspec's files and variables.
"""

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import fsspec
import fsspec.config

from bert_jax.settings import UserError

_EXTRAS = {"gs": "gcs", "s3": "s3"}
_LOGIN = {
  "gs": (
    "log in with `gcloud auth application-default login`, or name a key file"
    " in GOOGLE_APPLICATION_CREDENTIALS"
  ),
  "s3": "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
}
_ABOUT_ACCESS = re.compile(
  r"credential|denied|forbidden|unauthori[sz]ed|anonymous|token|40[13]", re.I
)

# By what a store tells that an object is still the same.
_VERSION = ("ETag", "etag", "generation", "md5Hash", "LastModified", "updated")

# For all that opens a store by fsspec, Orbax too: what other processes and
# TensorStore write must be seen, and an endpoint that is not there is told of
# in seconds, not in minutes. What the user sets goes before.
for _scheme, _options in {
  "gcs": {"use_listings_cache": False},
  "s3": {
    "use_listings_cache": False,
    "config_kwargs": {
      "connect_timeout": 10,
      "read_timeout": 60,
      "retries": {"max_attempts": 2},
    },
  },
}.items():
  fsspec.config.conf[_scheme] = {
    **_options,
    **fsspec.config.conf.get(_scheme, {}),
  }
# What fails reaches the caller as an exception; it would print tracebacks.
logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
# Where TensorFlow happens to be installed, etils would have it read paths.
os.environ.setdefault("EPATH_USE_TF", "false")


@contextlib.contextmanager
def open_store(
  where: str | os.PathLike[str],
) -> Iterator[fsspec.AbstractFileSystem]:
  """The store of a path; what goes wrong with it in one line.

  Raises:
    FileNotFoundError: there is no such object; it passes through.
    UserError: whatever else a network, a server or a disk can raise, or the
      store's package is not installed.
  """
  name = scheme(where)
  try:
    yield fsspec.filesystem(name)
  except (UserError, FileNotFoundError):
    raise
  except ImportError as error:
    raise UserError(
      f"{where}: {name}:// needs a package; pip install"
      f" 'bert_jax[{_EXTRAS[name]}]'"
    ) from error
  # These have no common type.
  except Exception as error:
    raise UserError(f"{where}: {_reason(name, error)}") from error


@contextlib.contextmanager
def open_for_writing(
  where: str | os.PathLike[str],
) -> Iterator[fsspec.AbstractFileSystem]:
  """As `open_store`, where nothing but the bucket can be missing.

  Raises:
    UserError: as `open_store`, or there is no such bucket.
  """
  try:
    with open_store(where) as store:
      yield store
  except FileNotFoundError as error:
    raise UserError(f"{where}: no such bucket") from error


@contextlib.contextmanager
def explain_errors(where: str | os.PathLike[str]) -> Iterator[None]:
  """Says what goes wrong with a path in one line, if it is in a store.

  Raises:
    UserError: as `open_store`, of what others do with the store.
  """
  if "://" not in os.fspath(where):
    yield
    return
  with open_store(where):
    yield


def scheme(where: str | os.PathLike[str]) -> str:
  """`gs` or `s3`."""
  return os.fspath(where).partition("://")[0]


def list_versions(
  store: fsspec.AbstractFileSystem, where: str | os.PathLike[str]
) -> dict[str, list[Any]]:
  """The version of each file below a path, by relative name.

  A version begins with the size. A file is below itself by the name "".

  Raises:
    FileNotFoundError: there is nothing; some stores say so by an empty dict.
    UserError: a name is none that a file can have.
  """
  url = os.fspath(where)
  start = len(store._strip_protocol(url)) + 1
  found = {}
  for path, info in sorted(store.find(url, detail=True).items()):
    name = path[start:]
    # Stores' own pages mark a folder by an object that ends so.
    if info["type"] != "file" or path.endswith("/"):
      continue
    if name and not {"", ".", ".."}.isdisjoint(name.split("/")):
      raise UserError(f"{url}: {name!r} cannot be the name of a file")
    found[name] = _version(info)
  return found


def _version(info: Mapping[str, Any]) -> list[Any]:
  return [info["size"], *(str(info[key]) for key in _VERSION if key in info)]


def _reason(scheme: str, error: Exception) -> str:
  """What went wrong and what to do, in one line."""
  if isinstance(error, OSError) and error.errno and error.filename:
    return f"{error.strerror} ({error.filename}; see XDG_CACHE_HOME)"
  message = " ".join(str(error).split())[:300] or "no answer"
  name = type(error).__name__
  hint = ""
  if isinstance(error, PermissionError) or _ABOUT_ACCESS.search(
    f"{name} {message}"
  ):
    hint = f"; {_LOGIN[scheme]}"
  return f"{name}: {message}{hint}"

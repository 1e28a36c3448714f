"""Access to the object stores `gs://` and `s3://`, with errors in one line.

`gcsfs` and `s3fs` find credentials and endpoints as the tools of Google and
Amazon do. fsspec's configuration files and environment variables apply too.
"""

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bert_jax.settings import UserError

if TYPE_CHECKING:
  import fsspec  # Slow to import, and local paths do without.

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

# The fields of a listing that change with the object.
_VERSION = ("ETag", "etag", "generation", "md5Hash", "LastModified", "updated")

# Listings are not cached: other processes and TensorStore write to the same
# folders. An endpoint that does not answer is an error within seconds.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
  "gcs": {"use_listings_cache": False},
  "s3": {
    "use_listings_cache": False,
    "config_kwargs": {
      "connect_timeout": 10,
      "read_timeout": 60,
      "retries": {"max_attempts": 2},
    },
  },
}


def configure() -> None:
  """Sets our defaults for object stores, where the user has set nothing.

  Called before each use of a store, never at import. The settings are in
  fsspec's configuration because Orbax opens stores through `etils.epath`,
  which takes no options.
  """
  import fsspec.config

  for name, options in _DEFAULTS.items():
    configured = fsspec.config.conf.setdefault(name, {})
    for key, value in options.items():
      configured.setdefault(key, value)
  # gcsfs logs a traceback for each error that it raises.
  logger = logging.getLogger("gcsfs")
  if logger.level == logging.NOTSET:
    logger.setLevel(logging.CRITICAL)
  # Else epath reads gs:// through TensorFlow where that is installed.
  os.environ.setdefault("EPATH_USE_TF", "false")


@contextlib.contextmanager
def open_store(
  where: str | os.PathLike[str], writing: bool = False
) -> "Iterator[fsspec.AbstractFileSystem]":
  """The filesystem of a path; errors in the block become a `UserError`.

  Raises:
    FileNotFoundError: the block raised it; for `writing` this is a `UserError`
      too, because there is no such bucket.
    UserError: any other error of the network, the store or the local disk, or
      the store's package is not installed.
  """
  import fsspec

  name = scheme(where)
  configure()
  try:
    yield fsspec.filesystem(name)
  except UserError:
    raise
  except FileNotFoundError as error:
    if writing:
      raise UserError(f"{where}: no such bucket") from error
    raise
  except ImportError as error:
    raise UserError(
      f"{where}: {name}:// needs a package: pip install"
      f" 'bert_jax[{_EXTRAS[name]}]'"
    ) from error
  # These have no common base class.
  except Exception as error:
    raise UserError(f"{where}: {_reason(name, error)}") from error


@contextlib.contextmanager
def explain_errors(where: str | os.PathLike[str]) -> Iterator[None]:
  """Makes errors of other libraries a `UserError` if the path is in a store."""
  if "://" not in os.fspath(where):
    yield
    return
  with open_store(where):
    yield


def scheme(where: str | os.PathLike[str]) -> str:
  """The scheme of a path in a store, `gs` or `s3`."""
  return os.fspath(where).partition("://")[0]


def list_versions(
  store: "fsspec.AbstractFileSystem", where: str | os.PathLike[str]
) -> dict[str, list[Any]]:
  """The size and version identifiers of the files below a path, by name.

  Names are relative; that of the path itself is "".

  Raises:
    FileNotFoundError: there is nothing; some stores return an empty dict.
    UserError: an object's name is not a valid file name.
  """
  url = os.fspath(where)
  start = len(store._strip_protocol(url)) + 1
  found = {}
  for path, info in sorted(store.find(url, detail=True).items()):
    name = path[start:]
    # The stores' web pages mark a folder by an object with such a name.
    if info["type"] != "file" or path.endswith("/"):
      continue
    if name and not {"", ".", ".."}.isdisjoint(name.split("/")):
      raise UserError(f"{url}: {name!r} is not a valid file name")
    version = (str(info[key]) for key in _VERSION if key in info)
    found[name] = [info["size"], *version]
  return found


def _reason(scheme: str, error: Exception) -> str:
  """The reason of an error and its remedy, in one line."""
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

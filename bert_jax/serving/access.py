"""Who may send requests, and how many: bearer tokens, and rates."""

import collections
import dataclasses
import hashlib
import hmac
import logging
import math
import pathlib
import re
import time

from bert_jax.serving.errors import ServingError
from bert_jax.serving.settings import ServeSettings
from bert_jax.settings import UserError

_LOG = logging.getLogger("bert_jax.serving")
_HASH = re.compile("[0-9a-fA-F]{64}")
# The file is looked at so often, at most.
_RELOAD_SECONDS = 0.5
# Addresses whose rates are kept; the one that was silent longest is forgotten.
_MAX_BUCKETS = 10_000


@dataclasses.dataclass(frozen=True)
class Token:
  """A token that is accepted.

  Attributes:
    name: for the log.
    digest: SHA-256 of the token.
    rate: requests per second; None for that of the settings.
  """

  name: str
  digest: bytes
  rate: float | None = None


@dataclasses.dataclass(eq=False)
class _Bucket:
  """Requests that a client may send at once; the bucket refills at its rate."""

  level: float
  at: float

  def take(self, rate: float, burst: float) -> float:
    """Takes a request; returns the seconds until there is one, 0 if taken."""
    now = time.monotonic()
    self.level = min(burst, self.level + (now - self.at) * rate)
    self.at = now
    if self.level < 1:
      return (1 - self.level) / rate
    self.level -= 1
    return 0.0


class Access:
  """Checks the tokens and the rates of requests.

  A line of the file of tokens is a name, the SHA-256 of the token, and maybe
  `rate=N`, the requests per second; `#` begins a comment:

      ann 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
      b 60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752 rate=5

  The file is read again when it changes: a token that is taken out is refused
  within a second. A file that cannot be read, or has a line that is wrong, is
  logged, and the tokens that were read before stay.
  """

  def __init__(self, settings: ServeSettings):
    """Reads the tokens.

    Raises:
      UserError: the file cannot be read, or a line is wrong.
    """
    self._rate, self._burst = settings.rate_limit, settings.rate_burst
    self._path = pathlib.Path(settings.tokens) if settings.tokens else None
    self._buckets: collections.OrderedDict[str, _Bucket] = (
      collections.OrderedDict()
    )
    self._seen = self._stamp()
    self._tokens = _read(self._path) if self._path else []
    self._next_look = time.monotonic() + _RELOAD_SECONDS

  @property
  def needs_token(self) -> bool:
    """Whether requests need a token."""
    return self._path is not None

  def _stamp(self) -> tuple[int, ...] | None:
    if self._path is None:
      return None
    try:
      found = self._path.stat()
    except OSError:
      return None
    return found.st_mtime_ns, found.st_size, found.st_ino

  def _refresh(self) -> None:
    now = time.monotonic()
    if self._path is None or now < self._next_look:
      return
    self._next_look = now + _RELOAD_SECONDS
    stamp = self._stamp()
    if stamp == self._seen:
      return
    self._seen = stamp
    try:
      self._tokens = _read(self._path)
      _LOG.info("the tokens were read again: %d", len(self._tokens))
    except UserError as error:
      _LOG.error("%s; the tokens that were read before stay", error)

  def check(self, authorization: bytes | None, address: str) -> str:
    """The name of the client; counts the request against its rate.

    Args:
      authorization: the header, `Bearer TOKEN`.
      address: of the client, which has the rate where there are no tokens.

    Raises:
      ServingError: unauthorized without a known token, rate_limited above the
        rate.
    """
    name, rate = address, self._rate
    if self._path is not None:
      self._refresh()
      token = self._find(authorization)
      name, rate = token.name, token.rate or rate
    if rate is not None:
      self._take(name, rate)
    return name if self._path is not None else ""

  def _find(self, authorization: bytes | None) -> Token:
    scheme, _, given = (authorization or b"").strip().partition(b" ")
    digest = hashlib.sha256(given.strip()).digest()
    found = None
    # All are compared, each in constant time.
    for token in self._tokens:
      if hmac.compare_digest(token.digest, digest):
        found = token
    if found is None or scheme.lower() != b"bearer":
      error = ServingError(
        "unauthorized",
        "expected the header authorization: Bearer TOKEN with a known token",
      )
      error.headers = {"WWW-Authenticate": "Bearer"}
      raise error
    return found

  def _take(self, name: str, rate: float) -> None:
    burst = max(self._burst, 1)
    bucket = self._buckets.get(name)
    if bucket is None:
      bucket = self._buckets[name] = _Bucket(burst, time.monotonic())
      if len(self._buckets) > _MAX_BUCKETS:
        self._buckets.popitem(last=False)
    self._buckets.move_to_end(name)
    wait = bucket.take(rate, burst)
    if wait:
      raise ServingError(
        "rate_limited",
        f"more than {rate:g} requests per second",
        retry_after=wait,
      )


def _read(path: pathlib.Path) -> list[Token]:
  """The tokens of a file.

  Raises:
    UserError: it cannot be read, or a line is wrong.
  """
  try:
    lines = path.read_text("utf-8").splitlines()
  except (OSError, UnicodeDecodeError) as error:
    reason = getattr(error, "strerror", None) or "not UTF-8"
    raise UserError(f"tokens: {path}: {reason}") from None
  made, names = [], set()
  for number, line in enumerate(lines, 1):
    parts = line.partition("#")[0].split()
    if not parts:
      continue
    token = _parse(parts)
    # The line itself may hold a token that is no hash: it stays secret.
    if token is None or token.name in names:
      raise UserError(
        f"tokens: {path}, line {number}: expected NAME SHA256 [rate=N], with"
        " another name than the lines before, and 64 hexadecimal digits"
      )
    names.add(token.name)
    made.append(token)
  return made


def _parse(parts: list[str]) -> Token | None:
  """The token of a line, None where the line is wrong."""
  if len(parts) not in (2, 3) or not _HASH.fullmatch(parts[1]):
    return None
  rate = None
  for option in parts[2:]:
    key, _, value = option.partition("=")
    try:
      rate = float(value)
    except ValueError:
      return None
    if key != "rate" or not 0 < rate < math.inf:
      return None
  return Token(parts[0], bytes.fromhex(parts[1]), rate)

"""The errors that a request is answered with."""

import types
from collections.abc import Mapping

STATUS: Mapping[str, int] = types.MappingProxyType(
  {
    "invalid_request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "too_large": 413,
    "unsupported_media_type": 415,
    "unprocessable": 422,
    "rate_limited": 429,
    "overloaded": 429,
    "headers_too_large": 431,
    "internal": 500,
    "unavailable": 503,
    "deadline_exceeded": 504,
  }
)
"""The HTTP status of each code."""


class ServingError(Exception):
  """A request, or one item of it, cannot be answered.

  Attributes:
    status: the HTTP status.
    code: a key of `STATUS`.
    message: a sentence for the client; it does not repeat the input.
    headers: of the response, such as `Retry-After`.
    item: the number of the item that is wrong, from 0; None if it is the
      whole request.
  """

  def __init__(
    self,
    code: str,
    message: str,
    *,
    item: int | None = None,
    retry_after: float | None = None,
  ):
    """An error with a code and a message.

    Args:
      code: a key of `STATUS`.
      message: a sentence for the client.
      item: the number of the item that is wrong, from 0.
      retry_after: seconds after which the client may try again; sent as whole
        seconds, at least 1.
    """
    super().__init__(message)
    self.status, self.code, self.message = STATUS[code], code, message
    self.item = item
    self.headers: Mapping[str, str] = {}
    if retry_after is not None:
      self.headers = {"Retry-After": str(max(1, -int(-retry_after // 1)))}

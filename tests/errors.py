"""Errors of users, as tests expect them."""

import contextlib

import pytest

from bert_jax.settings import UserError


@contextlib.contextmanager
def user_error(match=None):
  """Expects a `UserError` of one line that matches; gives its information."""
  with pytest.raises(UserError, match=match) as error:
    yield error
  assert "\n" not in str(error.value)

"""Enforces the shapes and dtypes of annotations while tests run."""

import functools
import types
import typing

import beartype
import jax
import jaxtyping
import numpy as np

MODULES = (
  "bert_jax.batch",
  "bert_jax.model",
  "bert_jax.models",
  "bert_jax.tasks",
  "bert_jax.types",
)


def install():
  """Checks the annotated arrays of these modules; before they are imported."""
  jaxtyping.install_import_hook(MODULES, "tests.shapes.check")


def check(function):
  """Checks those arguments and results whose annotations have a shape.

  Other annotations are for readers: some, protocols and `Self` among them,
  cannot be checked at run time.
  """
  annotations = {
    name: _of_any_array(hint)
    for name, hint in function.__annotations__.items()
    if _has_shape(hint)
  }
  if not annotations:
    return function
  function.__annotations__ = annotations
  checked = beartype.beartype(function)
  if not function.__qualname__.endswith("__init__"):
    return checked

  @functools.wraps(function)
  def of_arrays(*args, **kwargs):
    # A pytree may hold shapes, shardings or axes in the place of arrays.
    values = (*args[1:], *kwargs.values())
    is_array = all(isinstance(x, jax.Array | np.ndarray | dict) for x in values)
    return (checked if is_array else function)(*args, **kwargs)

  return of_arrays


def _is_shape(hint):
  return isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray)


def _has_shape(hint):
  return _is_shape(hint) or any(map(_has_shape, typing.get_args(hint)))


def _of_any_array(hint):
  """The hint; where it asks for JAX's array, NumPy's does as well."""
  if _is_shape(hint) and hint.array_type is jax.Array:
    return hint.dtype[jax.Array | np.ndarray, hint.dim_str]
  if typing.get_origin(hint) in (types.UnionType, typing.Union):
    return typing.Union[tuple(map(_of_any_array, typing.get_args(hint)))]  # noqa: UP007
  return hint

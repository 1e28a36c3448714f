"""The flags that select a model: --model, --task and --combine."""

import bert_jax
from bert_jax import ensembling, loading
from bert_jax.models import exits
from bert_jax.predictor import Predictor
from bert_jax.settings import UserError

from . import cli


def define(values: cli.Values) -> None:
  """Defines the flags."""
  values.define(
    "model", "The model to load; with --combine several, A,B.", required=True
  )
  values.define(
    "task",
    "A task other than that of the model's head, such as embedding; for a"
    " multi-task model, the name of one of its tasks.",
  )
  values.define(
    "combine",
    "How to combine several models, --model=A,B, or all checkpoints of a run.",
    "enum",
    enum_values=list(ensembling.COMBINATIONS),
  )
  values.define(
    "exits",
    "When rows leave a model with early exits: patience=2, entropy=0.2 or"
    " never; by default as the model says.",
  )
  define_ignored(values)


def define_ignored(values: cli.Values) -> None:
  """Defines --ignore_unexpected."""
  values.define(
    "ignore_unexpected",
    "Leave out published weights that the model has no place for.",
    "boolean",
    default=False,
  )


def names(values: cli.Values) -> list[str]:
  """The models that --model names: one, or several with --combine."""
  if values.combine is None:
    return [values.model]
  given = [name.strip() for name in values.model.split(",")]
  if not all(given):
    raise UserError(f"--model {values.model}: expected models between commas")
  return given


def load(
  values: cli.Values, with_parameters: bool = False
) -> bert_jax.Model | Predictor:
  """Loads the model that the flags name.

  Args:
    values: of the flags.
    with_parameters: whether it must be a `Model`, and no export.

  Raises:
    UserError: there is no such model, or several cannot be combined.
  """
  if values.combine is None:
    open_model = loading.load_model if with_parameters else loading.load
    return open_model(
      values.model,
      values.task,
      ignore_unexpected=values.ignore_unexpected,
      exits=None if values.exits is None else exits.parse(values.exits),
    )
  for name in ("ignore_unexpected", "exits"):
    if getattr(values, name):
      raise UserError(f"--{name} goes with one model, not --combine")
  given = names(values)
  combine = ensembling.COMBINATIONS[values.combine]
  return combine(given if len(given) > 1 else given[0], values.task)

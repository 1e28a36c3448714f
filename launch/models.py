"""The flags that say which model: --model, --task and --combine."""

from absl import flags

import bert_jax
from bert_jax import ensembling
from bert_jax.settings import UserError

_MODEL = flags.DEFINE_string("model", None, "What to load.")
_TASK = flags.DEFINE_string(
  "task",
  None,
  "Another task than the model's head is for, as embedding; of a model for"
  " several tasks, one of their names.",
)
_COMBINE = flags.DEFINE_enum(
  "combine",
  None,
  list(ensembling.COMBINATIONS),
  "Makes one of several models, --model=A,B, or of all checkpoints of a run.",
)


def names() -> list[str]:
  """What --model says: one model, or several that are to be combined."""
  if _COMBINE.value is None:
    return [_MODEL.value]
  given = [name.strip() for name in _MODEL.value.split(",")]
  if not all(given):
    raise UserError(f"--model {_MODEL.value}: expected models between commas")
  return given


def task() -> str | None:
  """What --task says."""
  return _TASK.value


def load() -> bert_jax.Model:
  """Loads what the flags say.

  Raises:
    UserError: there is no such model, or several do not go together.
  """
  if _COMBINE.value is None:
    return bert_jax.load(_MODEL.value, _TASK.value)
  given = names()
  combine = ensembling.COMBINATIONS[_COMBINE.value]
  return combine(given if len(given) > 1 else given[0], _TASK.value)


def mark_required() -> None:
  """Makes --model a flag that must be given."""
  flags.mark_flag_as_required("model")

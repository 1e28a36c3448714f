"""A Hugging Face config.json: its encoder, and its task."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from bert_jax import settings
from bert_jax.interop.families import FAMILIES, Family
from bert_jax.models.config import RUNTIME_FIELDS, EncoderConfig
from bert_jax.settings import UserError
from bert_jax.tasks import TASKS
from bert_jax.tasks.task import Task

BASE_MODEL = "Model"
"""The end of the class name of a model without a head."""

# Values in config.json and ours, by field.
_WORDS = {
  "activation": {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
  },
  "pooling": {"cls": "first", "mean": "mean"},
}
# Fields of how a model is run, not of the model.
_NOT_OF_THE_MODEL = (*RUNTIME_FIELDS, "layer_dropouts", "vocab_multiple")


def read_config(
  config: Mapping[str, Any], where: str
) -> tuple[Family, EncoderConfig]:
  """The family and the encoder of a config.json, or a `UserError`."""
  model_type = config.get("model_type")
  if not isinstance(model_type, str):
    raise UserError(
      f"{where}: no model_type; expected one of {', '.join(FAMILIES)}"
    )
  family = settings.choice(f"{where}: model_type", model_type, FAMILIES)
  for key, value in family.fixed.items():
    if config.get(key, value) not in (value, None):
      raise UserError(
        f"{where}: {key}: {config[key]!r} is not supported, only {value!r}"
      )
  for key, values in family.required.items():
    if config.get(key) not in values:
      raise UserError(
        f"{where}: {key}: {config.get(key)!r} is not supported, only"
        f" {values[0]!r}"
      )
  fields = {"family": model_type, **family.mechanics}
  for key in family.keys:
    value = config.get(key.name, key.default)
    choices = _WORDS.get(key.field)
    if choices:
      value = settings.choice(f"{where}: {key.name}", str(value), choices)
    fields[key.field] = value
  if fields.get("head_dropout") == fields["hidden_dropout"]:
    fields["head_dropout"] = None
  try:
    fields = family.read(fields, config)
  except (TypeError, AttributeError) as error:
    raise UserError(f"{where}: damaged ({error})") from error
  return family, settings.from_dict(EncoderConfig, fields, where)


def write_config(config: EncoderConfig, where: str) -> dict[str, Any]:
  """The keys of config.json for an encoder; a `UserError` if there are none."""
  family, fields = FAMILIES[config.family], dataclasses.asdict(config)
  keys = {"model_type": config.family, **family.fixed}
  keys |= {key: values[0] for key, values in family.required.items()}
  for key in family.keys:
    value = fields[key.field]
    if key.field == "head_dropout" and key.default is not None:
      # The classes of the family do not accept null.
      value = fields["hidden_dropout"] if value is None else value
    words = {ours: theirs for theirs, ours in _WORDS.get(key.field, {}).items()}
    keys[key.name] = words.get(value, value)
  keys = family.write(keys, fields)
  _, again = read_config(keys, where)
  for name, value in fields.items():
    if name not in _NOT_OF_THE_MODEL and getattr(again, name) != value:
      raise UserError(
        f"{where}: {name} is {value!r}, which {config.family} models do not"
        f" have there (but {getattr(again, name)!r})"
      )
  return keys


def read_task(
  family: Family,
  config: Mapping[str, Any],
  tensors: Collection[str],
  where: str,
) -> Task | None:
  """The task with its labels, not bound; None for a base model."""
  given = config.get("architectures") or [None]
  name = given[0] if isinstance(given, list) else given
  known = {family.class_name + end: end for end in family.heads}
  end = known.get(name, BASE_MODEL) if isinstance(name, str) else BASE_MODEL
  if end == "ForMaskedLM" and "ForPreTraining" in family.heads:
    # Published as a masked language model, but with all heads of BERT.
    row = family.heads["ForPreTraining"].get("next_sentence")
    if row is not None and f"{row}.weight" in tensors:
      end = "ForPreTraining"
  if end == BASE_MODEL:
    return None
  candidates = [
    task.for_published()
    for task in TASKS.values()
    if task.architecture == end and has_heads(family, task)
  ]
  for task in candidates:
    targets = task.targets.items()
    if all(target.reads_huggingface(config, where) for _, target in targets):
      return task.with_targets(
        {
          name: type(target).from_huggingface(config, where)
          for name, target in targets
        }
      )
  types = {
    target.PROBLEM_TYPE: None
    for task in candidates
    for target in task.targets.values()
  }
  # Raises an error that lists the known types.
  given_type = str(config.get("problem_type"))
  settings.choice(f"{where}: problem_type", given_type, types)
  return None


def has_heads(family: Family, task: Task) -> bool:
  """Whether a class of the family in Transformers has the task's heads."""
  if task.architecture not in family.heads:
    return False
  modules = {path.split("/")[0] for path in family.heads[task.architecture]}
  is_base = task.architecture == BASE_MODEL
  return is_base or modules.issuperset(task.head_names.values())


def write_task(task: Task) -> dict[str, Any]:
  """The keys of config.json about the task and the vocabulary."""
  keys = {
    "architectures": [architecture(task.config.family, task)],
    # Not the default of every version of every family.
    "tie_word_embeddings": True,
  }
  for target in task.targets.values():
    keys |= target.to_huggingface()
  return keys | _special_keys(task)


def architecture(family: str, task: Task) -> str:
  """The name of Transformers' class for a task."""
  return FAMILIES[family].class_name + task.architecture


def _special_keys(task: Task) -> dict[str, Any]:
  """The ids that Transformers' models want in their config."""
  if task.tokenizer is None:
    # ModernBERT's default is beyond a small vocabulary.
    return {} if task.config.position_offset else {"pad_token_id": 0}
  special = task.tokenizer.special
  return {
    "pad_token_id": special.pad,
    "cls_token_id": special.cls,
    "sep_token_id": special.sep,
    "bos_token_id": special.cls,
    "eos_token_id": special.sep,
  }

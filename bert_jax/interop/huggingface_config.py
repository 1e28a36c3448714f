"""A Hugging Face config.json: its encoder, its task, and its labels."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from bert_jax import settings
from bert_jax.interop.families import FAMILIES, Family
from bert_jax.models.config import HOW_IT_IS_RUN, EncoderConfig
from bert_jax.settings import UserError
from bert_jax.tasks import TASKS
from bert_jax.tasks.task import Task

# What an architecture's name ends with, by task; ELECTRA's pretraining has a
# task of its own.
_ENDINGS = {
  "pretraining": "ForPreTraining",
  "replaced_tokens": "ForPreTraining",
  "masked_lm": "ForMaskedLM",
  "next_sentence": "ForNextSentencePrediction",
  "classification": "ForSequenceClassification",
  "multi_label": "ForSequenceClassification",
  "regression": "ForSequenceClassification",
  "tagging": "ForTokenClassification",
  "question_answering": "ForQuestionAnswering",
  "multiple_choice": "ForMultipleChoice",
  "embedding": "Model",
}
_ACTIVATIONS = {
  "gelu": "gelu",
  "gelu_new": "gelu_tanh",
  "gelu_pytorch_tanh": "gelu_tanh",
}
# Words of config.json for ours, by the field they are about.
_WORDS = {
  "activation": _ACTIVATIONS,
  "pooling": {"cls": "first", "mean": "mean"},
}
# They say how a model is run, not which it is.
_NOT_OF_THE_MODEL = (*HOW_IT_IS_RUN, "layer_dropouts")
# What a head for a whole sequence is for, by `problem_type`.
_PROBLEMS = {
  "single_label_classification": "classification",
  "multi_label_classification": "multi_label",
  "regression": "regression",
}
# Ours alone, which Transformers keeps and makes nothing of.
_THRESHOLDS = "thresholds"


def read_config(
  config: Mapping[str, Any], where: str
) -> tuple[Family, EncoderConfig]:
  """The family and the encoder that a config.json tells of.

  Raises:
    UserError: the family is not one of ours, or something is not supported.
  """
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
  fields = {"family": model_type, **family.mechanics}
  for key in family.keys:
    value = config.get(key.name, key.default)
    choices = _WORDS.get(key.field)
    if choices:
      value = settings.choice(f"{where}: {key.name}", str(value), choices)
    fields[key.field] = value
  if fields["head_dropout"] == fields["hidden_dropout"]:
    fields["head_dropout"] = None
  try:
    fields = family.read(fields, config)
  except (TypeError, AttributeError) as error:
    raise UserError(f"{where}: damaged ({error})") from error
  return family, settings.from_dict(EncoderConfig, fields, where)


def write_config(config: EncoderConfig, where: str) -> dict[str, Any]:
  """The keys of config.json that make this encoder.

  Raises:
    UserError: no config.json of its family does.
  """
  family, fields = FAMILIES[config.family], dataclasses.asdict(config)
  keys = {"model_type": config.family, **family.fixed}
  for key in family.keys:
    value = fields[key.field]
    if key.field == "head_dropout" and key.default is not None:
      # Its classes take no null there.
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
) -> str:
  """The task that the architecture's name, and those of tensors, tell of.

  Raises:
    UserError: labels, or what they are for, are damaged.
  """
  given = config.get("architectures") or [None]
  name = given[0] if isinstance(given, list) else given
  candidates = [
    task for task in family.heads if family.class_name + _ENDINGS[task] == name
  ]
  if not candidates:
    return "embedding"
  if candidates == ["masked_lm"] and "pretraining" in family.heads:
    # Published as a masked language model, with all of BERT's heads in it.
    row = family.heads["pretraining"]["next_sentence"]
    if f"{row}.weight" in tensors:
      return "pretraining"
  if candidates[0] in _PROBLEMS.values():
    return _problem(config, where)
  return candidates[0]


def _problem(config: Mapping[str, Any], where: str) -> str:
  """The task of a head for a whole sequence."""
  given = config.get("problem_type")
  if given is not None:
    return settings.choice(f"{where}: problem_type", str(given), _PROBLEMS)
  # So Transformers takes it, unless the labels that it is to learn are floats.
  one = len(_labels(config, where)) == 1
  return "regression" if one else "classification"


def read_head(task: str, config: Mapping[str, Any], where: str) -> Any:
  """The task's `Head`, if a config.json has something to say of it.

  Raises:
    UserError: the labels are damaged.
  """
  if task not in ("tagging", *_PROBLEMS.values()):
    return None
  fields = {"labels": _labels(config, where)}
  if task == "multi_label" and _THRESHOLDS in config:
    fields["thresholds"] = config[_THRESHOLDS]
  return settings.from_dict(TASKS[task].Head, fields, where)


def _labels(config: Mapping[str, Any], where: str) -> tuple[str, ...]:
  names_by_id = config.get("id2label", {"0": "LABEL_0", "1": "LABEL_1"})
  try:
    by_id = {int(id): str(name) for id, name in names_by_id.items()}
  except (AttributeError, ValueError, TypeError) as error:
    raise UserError(
      f"{where}: id2label: expected a mapping from ids to labels, got"
      f" {names_by_id!r:.80}"
    ) from error
  if sorted(by_id) != list(range(len(by_id))) or not by_id:
    raise UserError(
      f"{where}: id2label: expected the ids 0 to {len(by_id) - 1}, got"
      f" {sorted(by_id)!r:.80}"
    )
  return tuple(by_id[id] for id in range(len(by_id)))


def write_head(task: Task) -> dict[str, Any]:
  """The keys of config.json that are about the head and the vocabulary."""
  return (
    {
      "architectures": [architecture(task.config.family, task.name)],
      # Not the default of every version of every family.
      "tie_word_embeddings": True,
    }
    | _head_keys(task)
    | _special_keys(task)
  )


def architecture(family: str, task: str) -> str:
  """The name of Transformers' class for a task."""
  return FAMILIES[family].class_name + _ENDINGS[task]


def _head_keys(task: Task) -> dict[str, Any]:
  labels = getattr(task.head, "labels", ())
  if not labels:
    return {}
  keys = {
    "id2label": {str(id): label for id, label in enumerate(labels)},
    "label2id": {label: id for id, label in enumerate(labels)},
  }
  for theirs, ours in _PROBLEMS.items():
    if ours == task.name:
      keys["problem_type"] = theirs
  if task.name == "multi_label":
    keys[_THRESHOLDS] = list(task.head.thresholds)
  return keys


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

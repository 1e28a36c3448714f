"""A Hugging Face config.json: its encoder, and its task."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from bert_jax import settings
from bert_jax.interop import name_table
from bert_jax.interop.families import FAMILIES, Family
from bert_jax.interop.families.family import ACTIVATIONS
from bert_jax.interop.tensor_reader import TensorInfo
from bert_jax.models.config import RUNTIME_FIELDS, EncoderConfig
from bert_jax.settings import UserError
from bert_jax.tasks import TASKS
from bert_jax.tasks.targets.class_label import ClassLabel
from bert_jax.tasks.task import Task

# The output layer of the heads that may have several numbers of labels.
_OUTPUT = "classifier"
BASE_MODEL = "Model"
"""The end of the class name of a model without a head."""

# Values in config.json and ours, by field; of several for one of ours, the
# last is written.
_WORDS = {
  "activation": ACTIVATIONS,
  "pooler_activation": ACTIVATIONS,
  "pooling": {"cls": "first", "mean": "mean"},
}
# Fields of how a model is run, not of the model.
_NOT_OF_THE_MODEL = (
  *RUNTIME_FIELDS,
  "layer_dropouts",
  "tied_decoder",
  "vocab_multiple",
)
# Fields of encoders without some of their heads and units.
_OF_PRUNED = ("head_size", "layer_heads", "layer_intermediate_sizes")


def read_config(
  config: Mapping[str, Any], where: str
) -> tuple[Family, EncoderConfig]:
  """The family and the encoder of a config.json, or a `UserError`.

  Whether the decoder is tied, the tensors say: see `huggingface`.
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
  except UserError as error:
    raise UserError(f"{where}: {error}") from None
  except (TypeError, AttributeError) as error:
    raise UserError(f"{where}: damaged ({error})") from error
  return family, settings.from_dict(EncoderConfig, fields, where)


def write_config(
  config: EncoderConfig, where: str, architectures: Sequence[str] = ()
) -> dict[str, Any]:
  """The keys of config.json for an encoder; a `UserError` if there are none.

  `architectures` are the classes that the keys are for, which may have keys of
  their own.
  """
  family, fields = FAMILIES[config.family], dataclasses.asdict(config)
  keys = {"model_type": config.family, "architectures": [*architectures]}
  keys |= family.fixed
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
      if name in _OF_PRUNED:
        raise UserError(
          f"{where}: heads or units were removed from its layers, which"
          f" {config.family} models of Transformers cannot have ({name} is"
          f" {value!r}); keep the format bert_jax, or export it to onnx"
        )
      raise UserError(
        f"{where}: {name} is {value!r}, which {config.family} models do not"
        f" have there (but {getattr(again, name)!r})"
      )
  return keys


def read_task(
  family: Family,
  config: Mapping[str, Any],
  tensors: Mapping[str, TensorInfo],
  where: str,
  wanted: str | None = None,
) -> Task | None:
  """The task of the heads, with its labels, not bound.

  Args:
    family: of the encoder.
    config: the config.json.
    tensors: the tensors of the weights by name.
    where: the config.json, for messages.
    wanted: the name of the task to read. Where the config names no class with a
      head, the head is looked for among the weights.

  Returns:
    The task; None for a base model, or if the heads are not those of the wanted
    task.

  Raises:
    UserError: labels, activation or problem type are damaged.
  """
  end = _architecture(family, config, tensors)
  if wanted is not None and end == BASE_MODEL:
    end = TASKS[wanted].architecture if wanted in TASKS else BASE_MODEL
    rows = family.heads.get(end, {})
    if f"{rows.get(_OUTPUT)}.weight" not in tensors:
      return None
  if end == BASE_MODEL:
    return None
  config = _with_count(config, family.heads[end], tensors)
  candidates = [
    task.for_published()
    for task in TASKS.values()
    if task.architecture == end and has_heads(family, task)
  ]
  if wanted is not None:
    fitting = [task for task in candidates if task.name == wanted]
    found = [_with_targets(task, config, where) for task in fitting]
    return next(filter(_makes_sense, found), None)
  for task in candidates:
    targets = task.targets.values()
    if all(target.reads_huggingface(config, where) for target in targets):
      return _with_targets(task, config, where)
  types = {
    target.PROBLEM_TYPE: None
    for task in candidates
    for target in task.targets.values()
  }
  # Raises an error that lists the known types.
  given_type = str(config.get("problem_type"))
  settings.choice(f"{where}: problem_type", given_type, types)
  return None


def _architecture(
  family: Family, config: Mapping[str, Any], tensors: Collection[str]
) -> str:
  """The end of the class name, a key of `family.heads`."""
  given = config.get("architectures") or [None]
  name = given[0] if isinstance(given, list) else given
  known = {family.class_name + end: end for end in family.heads}
  end = known.get(name, BASE_MODEL) if isinstance(name, str) else BASE_MODEL
  if end == "ForMaskedLM" and "ForPreTraining" in family.heads:
    # Published as a masked language model, but with all heads of BERT.
    row = family.heads["ForPreTraining"].get("next_sentence")
    if row is not None and f"{row}.weight" in tensors:
      end = "ForPreTraining"
  return end


def _with_count(
  config: Mapping[str, Any],
  rows: name_table.Rows,
  tensors: Mapping[str, TensorInfo],
) -> Mapping[str, Any]:
  """The config with the number of labels, of the weights if it has none."""
  output = tensors.get(f"{rows.get(_OUTPUT)}.weight")
  said = {"id2label", "num_labels"} & config.keys()
  if said or output is None or len(output.shape) != 2:
    return config
  return {**config, "num_labels": output.shape[0]}


def _with_targets(task: Task, config: Mapping[str, Any], where: str) -> Task:
  """The task with what the config says of its targets and inputs."""
  inputs = task.inputs.from_huggingface(config, where)
  return dataclasses.replace(task, inputs=inputs).with_targets(
    {
      name: type(target).from_huggingface(config, where)
      for name, target in task.targets.items()
    }
  )


def _makes_sense(task: Task) -> bool:
  """Whether there is something to choose from: one label has probability 1."""
  return not any(
    isinstance(target, ClassLabel) and len(target.names) < 2
    for target in task.targets.values()
  )


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
    "tie_word_embeddings": task.config.tied_decoder,
  }
  for target in task.targets.values():
    keys |= target.to_huggingface()
  if of_inputs := task.inputs.to_huggingface():
    name = "task_specific_params"
    keys[name] = {**keys.get(name, {}), **of_inputs}
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

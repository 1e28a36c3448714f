"""Google's BERT releases: bert_config.json, vocab.txt and a TF1 checkpoint."""

import functools
import pathlib

from bert_jax import text
from bert_jax.interop import huggingface_config, name_table
from bert_jax.interop.families.bert import BERT, KEYS
from bert_jax.interop.name_table import LoadedParams, Tensor
from bert_jax.interop.pretrained import Place, Pretrained, with_pooler
from bert_jax.interop.tensorflow.tensor_bundle import TensorBundle
from bert_jax.settings import UserError
from bert_jax.tasks import EMBEDDING, PRETRAINED
from bert_jax.tasks.task import Task
from bert_jax.text import files
from bert_jax.types import Parameters

CONFIG_FILE = "bert_config.json"
_CHECKPOINT = "bert_model.ckpt"
_VOCABULARY = "vocab.txt"
# The state of the optimizer.
_IGNORED = (r".*/adam_[mv]", r".*/lamb_[mv]", r"global_step")


def _slashed(rows: name_table.Rows) -> name_table.Rows:
  return {
    ours: theirs.replace(".", "/").replace("layer/{n}", "layer_{n}")
    for ours, theirs in rows.items()
  }


_POOLER = {"pooler/dense": "bert/pooler/dense"}
_MASKED_LM = {
  **_slashed(BERT.heads["ForMaskedLM"]),
  "masked_lm/bias": Tensor("cls/predictions/output_bias"),
}
_HEADS = {
  "ForPreTraining": {
    **_POOLER,
    **_MASKED_LM,
    "next_sentence/kernel": Tensor("cls/seq_relationship/output_weights", True),
    "next_sentence/bias": Tensor("cls/seq_relationship/output_bias"),
  },
  "ForMaskedLM": _MASKED_LM,
}


def open_folder(
  folder: pathlib.Path, ignore_unexpected: bool = False
) -> Pretrained:
  """Opens an extracted release, not its weights, or raises a `UserError`.

  For `ignore_unexpected` see `name_table.read_params`.
  """
  path = folder / CONFIG_FILE
  config = files.read_json(path)
  known = {key.name for key in KEYS}
  _, encoder = huggingface_config.read_config(
    {"model_type": "bert", **{k: config[k] for k in known & config.keys()}},
    str(path),
  )
  tensors = TensorBundle.open(_prefix(folder))
  has_heads = "cls/predictions/output_bias" in tensors.shapes

  def read(task: Task, wanted: Parameters, place: Place | None) -> LoadedParams:
    table = name_table.Table(
      rows=_slashed({k: f"bert.{v}" for k, v in BERT.encoder.items()})
      | _HEADS.get(task.architecture, _POOLER),
      leaves=name_table.tensorflow_leaves,
      copies={},
      ignored=_IGNORED,
      others=list(_HEADS.values()),
    )
    is_there = functools.partial(table.is_in, tensors)
    wanted = with_pooler(wanted, encoder, is_there)
    return name_table.read_params(
      tensors, wanted, table, str(folder), place, ignore_unexpected
    )

  vocabulary = folder / _VOCABULARY
  return Pretrained(
    where=str(folder),
    config=encoder,
    task=PRETRAINED if has_heads else EMBEDDING,
    tokenizer=text.load(vocabulary) if vocabulary.exists() else None,
    read=read,
  )


def _prefix(folder: pathlib.Path) -> pathlib.Path:
  """The prefix of the released checkpoint, or else of the only checkpoint."""
  found = sorted(path.stem for path in folder.glob("*.index"))
  if _CHECKPOINT in found:
    return folder / _CHECKPOINT
  if len(found) != 1:
    raise UserError(
      f"{folder}: expected {_CHECKPOINT}.index, found"
      f" {', '.join(found[:8]) or 'no .index'}"
    )
  return folder / found[0]

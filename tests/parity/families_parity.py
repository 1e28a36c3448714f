"""Every family and head against PyTorch's models of Transformers.

The peer saves a random model, which is read here as a user's would be; then
outputs, loss and the gradients of all its parameters are compared, over rows
of several lengths. Saved again, it must be the same bit for bit.
"""

import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
import torch

import bert_jax
from bert_jax.interop import huggingface
from bert_jax.tasks.task import Task
from bert_jax.types import Batch, Parameters
from tests.parity import peers

_ROWS, _CHOICES, _LENGTH = 3, 2, 17


def checks() -> Iterator[tuple[str, float, float]]:
  for family, task, variant, changes in peers.cases():
    peer = peers.make_peer(family, task, changes)
    name = f"{family} {variant}".strip()
    with tempfile.TemporaryDirectory() as folder:
      for what, worst, bound in _compare(peer, task, pathlib.Path(folder)):
        yield f"{name:24} {task:18} {what}", worst, bound


def _compare(
  peer: torch.nn.Module, task_name: str, folder: pathlib.Path
) -> Iterator[tuple[str, float, float]]:
  peer.save_pretrained(folder / "theirs")
  model = bert_jax.load(folder / "theirs")
  task = model.task
  assert task.name == task_name, f"opened as {task.name}"
  rng = np.random.default_rng(0)
  batch = batch_of(task, rng)
  labels = labels_of(task, batch, rng)
  theirs = run_peer(peer, task, batch, labels)
  outputs, loss, gradients = _run_ours(task, model.params, batch)
  worst = max(
    float(np.abs(a - b).max()) for a, b in zip(outputs, theirs["outputs"])
  )
  yield "outputs", worst, 1e-5
  yield "loss", abs(loss - theirs["loss"]), 1e-5
  named = huggingface.named_tensors(task, gradients)
  # A tied parameter has two names, one of which is ours.
  learned = {
    name: parameter
    for name, parameter in peer.named_parameters(remove_duplicate=False)
    if parameter.grad is not None
  }
  expected = {
    name: parameter.grad.numpy()
    for name, parameter in learned.items()
    if name in named
  }
  compared = {id(learned[name]) for name in expected}
  assert compared == set(map(id, learned.values()))
  worst = max(
    float(np.abs(named[name] - array).max()) for name, array in expected.items()
  )
  yield "gradients", worst, 1e-4
  bert_jax.save(model, folder / "ours")
  yield "tensors that differ, saved again", _differing(folder), 0
  again = peers.reopened(folder / "ours", peer)
  found = run_peer(again, task, batch, labels)["outputs"]
  worst = max(
    float(np.abs(a - b).max()) for a, b in zip(found, theirs["outputs"])
  )
  yield "outputs, reopened in Transformers", worst, 1e-5


def _differing(folder: pathlib.Path) -> int:
  theirs, ours = (
    safetensors.numpy.load_file(folder / name / "model.safetensors")
    for name in ("theirs", "ours")
  )
  return len(theirs.keys() ^ ours.keys()) + sum(
    theirs[name].tobytes() != ours[name].tobytes()
    for name in theirs.keys() & ours.keys()
  )


def batch_of(task: Task, rng: np.random.Generator) -> Batch:
  shape = (_ROWS, _LENGTH)
  if task.name == "multiple_choice":
    shape = (_ROWS, _CHOICES, _LENGTH)
  lengths = rng.integers(5, _LENGTH + 1, (*shape[:-1], 1))
  lengths.flat[0] = _LENGTH
  is_summed = task.name == "multiple_choice" and task.config.pooling != "first"
  if task.name == "question_answering" or is_summed:
    # The peer's loss gives padding a share of the probability, and its summary
    # has padding in the mean or as the last token; ours do not.
    lengths[:] = _LENGTH
  used = np.arange(_LENGTH) < lengths
  # Token ids of padding are what the position ids of RoBERTa go by.
  pad = 1 if task.config.position_offset else 0
  ids = rng.integers(5, peers.VOCABULARY, shape)
  has_pairs = task.config.num_segments == 2
  return Batch(
    token_ids=np.where(used, ids, pad).astype(np.int32),
    segment_ids=(used & has_pairs & (np.arange(_LENGTH) > 3)).astype(np.int32),
    position_ids=np.broadcast_to(np.arange(_LENGTH, dtype=np.int32), shape),
    sequence_ids=used.astype(np.int32),
    targets={},
  )


def labels_of(task: Task, batch: Batch, rng) -> dict[str, np.ndarray]:
  """The batch's targets, which are put into it, under the peer's names."""
  used = batch.sequence_ids
  targets: dict[str, np.ndarray] = batch.targets
  ones = np.ones(_ROWS, np.float32)
  if task.name in ("masked_lm", "pretraining"):
    targets["masked_lm/positions"] = np.tile([[1, 3]], (_ROWS, 1))
    targets["masked_lm/ids"] = rng.integers(5, peers.VOCABULARY, (_ROWS, 2))
    targets["masked_lm/weights"] = np.ones((_ROWS, 2), np.float32)
    labels = np.full((_ROWS, _LENGTH), -100)
    labels[:, [1, 3]] = targets["masked_lm/ids"]
    if task.name == "masked_lm":
      return {"labels": labels}
  pairs = rng.integers(0, 2, _ROWS)
  if task.name == "pretraining":
    # Rows have slots for several pairs, here for one.
    targets["next_sentence/labels"] = pairs[:, None]
    targets["next_sentence/weights"] = ones[:, None]
    name = {"albert": "sentence_order_label"}.get(
      task.config.family, "next_sentence_label"
    )
    return {"labels": labels, name: pairs}
  if task.name == "next_sentence":
    targets["next_sentence/labels"] = pairs[:, None]
    targets["next_sentence/weights"] = ones[:, None]
    return {"labels": pairs}
  if task.name in ("classification", "multiple_choice"):
    (name,) = task.targets
    targets[f"{name}/labels"], targets[f"{name}/weights"] = pairs, ones
    if task.name == "multiple_choice":
      targets["inputs/choice_weights"] = np.ones((_ROWS, _CHOICES), np.float32)
    return {"labels": pairs}
  if task.name in peers.PROBLEMS:
    ((name, target),) = task.targets.items()
    numbers = rng.normal(0, 1, (_ROWS, len(target.labels)))
    if task.name == "multi_label":
      numbers = numbers > 0
    numbers = numbers.astype(np.float32)
    # Both tasks have one target; its array is named like it.
    targets[f"{name}/{name}"], targets[f"{name}/weights"] = numbers, ones
    return {"labels": numbers}
  if task.name in ("tagging", "replaced_tokens"):
    labels = rng.integers(0, 2, used.shape)
    if task.name == "tagging":
      targets["tags/labels"] = labels
      targets["tags/weights"] = used.astype(np.float32)
    else:
      targets["replaced/replaced"] = labels.astype(np.float32)
    return {"labels": np.where(used, labels, -100)}
  if task.name == "question_answering":
    starts, ends = rng.integers(0, 5, (2, _ROWS))
    targets["answer/start_positions"] = starts
    targets["answer/end_positions"] = ends
    targets["answer/weights"] = ones
    return {"start_positions": starts, "end_positions": ends}
  return {}


def run_peer(
  peer: torch.nn.Module, task: Task, batch: Batch, labels: dict
) -> dict[str, Any]:
  """The peer's outputs where ours are, and the loss, whose gradients stay."""
  inputs = {
    "input_ids": batch.token_ids,
    "attention_mask": batch.sequence_ids,
    **labels,
  }
  if task.config.num_segments:
    inputs["token_type_ids"] = batch.segment_ids
  # Torch's ids are int64.
  tensors = {name: torch.tensor(x) for name, x in inputs.items()}
  result = peer(
    **{
      name: x if x.is_floating_point() else x.long()
      for name, x in tensors.items()
    }
  )
  if task.name == "embedding":
    outputs = [result.last_hidden_state]
    used = torch.tensor(batch.sequence_ids)[..., None]
    loss = (result.last_hidden_state**2 * used).mean()
  elif task.name == "pretraining":
    second = "sop_logits" if hasattr(result, "sop_logits") else None
    outputs = [
      result.prediction_logits,
      result[second or "seq_relationship_logits"],
    ]
    loss = result.loss
  elif task.name == "question_answering":
    outputs = [torch.stack([result.start_logits, result.end_logits], dim=-1)]
    loss = result.loss
  else:
    outputs, loss = [result.logits], result.loss
  loss.backward()
  found = [x.detach().numpy() for x in outputs]
  return {"outputs": comparable(task, batch, found), "loss": loss.item()}


def _run_ours(
  task: Task, params: Parameters, batch: Batch
) -> tuple[list[np.ndarray], float, Parameters]:
  batch = jax.tree.map(jnp.asarray, batch)

  def loss(params):
    outputs = task.module.apply({"params": params}, batch)
    if task.name == "embedding":
      used = batch.sequence_ids[..., None]
      states = outputs["hidden_states"]
      return (jnp.square(states) * used).mean(), outputs
    means = task.loss(outputs, batch)
    return sum(mean.value() for mean in means.values()), outputs

  (value, outputs), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(
    params
  )
  found = [np.asarray(x) for x in jax.tree.leaves(outputs)]
  return comparable(task, batch, found), float(value), gradients


def comparable(task: Task, batch: Batch, outputs: list) -> list[np.ndarray]:
  """Outputs of tokens that are no padding, in one form for both sides."""
  if "masked_lm/positions" in batch.targets:
    places = np.asarray(batch.targets["masked_lm/positions"])[..., None]
    if outputs[0].shape[1] == _LENGTH:
      outputs = [np.take_along_axis(outputs[0], places, 1), *outputs[1:]]
    return [outputs[0], *(pairs.reshape(_ROWS, 2) for pairs in outputs[1:])]
  first = outputs[0]
  if task.name in ("multiple_choice", "next_sentence"):
    # Ours have an axis more: of a choice's one logit, and of a row's pairs.
    first = first.reshape(_ROWS, 2)
  if task.name == "replaced_tokens" and first.ndim == 2:
    first = first[..., None]
  if first.shape[:2] == (_ROWS, _LENGTH):
    first = first[np.asarray(batch.sequence_ids) > 0]
  return [first]

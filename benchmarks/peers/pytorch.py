"""PyTorch Transformers.

Options: `compile` the model; `autocast` to bfloat16; `trim` each batch to its
longest row; `gathered` predicts only masked positions, which Transformers does
not support.
"""

import contextlib
from collections.abc import Mapping, Sequence

import torch
import transformers
from torch import nn

from benchmarks import peers
from benchmarks.peers import Job, Rows, Run

_IGNORED = -100
_ROW = ("token_ids", "segment_ids", "sequence_ids")


class Gathered(nn.Module):
  """`BertForPreTraining` that predicts only masked positions."""

  def __init__(self, config: transformers.BertConfig):
    super().__init__()
    self.model = transformers.BertForPreTraining(config)

  def forward(
    self,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    token_type_ids: torch.Tensor,
    masked_positions: torch.Tensor,
    labels: torch.Tensor,
    next_sentence_label: torch.Tensor,
  ) -> dict[str, torch.Tensor]:
    """The loss; positions and labels are [rows, predictions]."""
    found = self.model.bert(
      input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
    )
    index = masked_positions[..., None].expand(-1, -1, found[0].shape[-1])
    words, pairs = self.model.cls(found[0].gather(1, index), found[1])
    loss = nn.functional.cross_entropy(words.flatten(0, 1), labels.flatten())
    loss += nn.functional.cross_entropy(pairs, next_sentence_label.flatten())
    return {"loss": loss}


def adamw(
  model: nn.Module, numbers: Mapping[str, float]
) -> torch.optim.Optimizer:
  """Fused AdamW, with the hyperparameters of `OptimizerConfig`."""
  tensors = list(model.parameters())
  groups = [
    # Norms and biases are vectors, all other parameters are not.
    {"params": [x for x in tensors if x.ndim < 2], "weight_decay": 0.0},
    {"params": [x for x in tensors if x.ndim > 1]},
  ]
  return torch.optim.AdamW(
    groups,
    lr=numbers["learning_rate"],
    betas=(numbers["b1"], numbers["b2"]),
    eps=numbers["eps"],
    weight_decay=numbers["weight_decay"],
    fused=True,
  )


def training(job: Job) -> Run:
  device = _device(job)
  torch.manual_seed(0)
  make = (
    Gathered if job.options.get("gathered") else transformers.BertForPreTraining
  )
  model = make(transformers.BertConfig(**job.model)).to(device).train()
  optimizer = adamw(model, job.optimizer)
  forward = torch.compile(model) if job.options.get("compile") else model

  def run(batches: Sequence[Rows]) -> float:
    for rows in batches:
      given = _put(_inputs(job, rows) | _targets(job, rows), device)
      with _precision(job):
        loss = forward(**given)["loss"]
      loss.backward()
      nn.utils.clip_grad_norm_(model.parameters(), job.optimizer["clip_norm"])
      optimizer.step()
      optimizer.zero_grad()
    return loss.item()  # Waits.

  return run


def inference(job: Job) -> Run:
  device = _device(job)
  config = transformers.BertConfig(**job.model)
  model = transformers.BertModel(config, add_pooling_layer=False)
  model.to(device).eval()
  forward = torch.compile(model) if job.options.get("compile") else model

  @torch.inference_mode()
  def run(batches: Sequence[Rows]) -> None:
    for rows in batches:
      given = _put(_inputs(job, rows), device)
      with _precision(job):
        hidden = forward(**given).last_hidden_state
      used = given["attention_mask"][..., None]
      ((hidden * used).sum(1) / used.sum(1)).float().cpu()

  return run


def peak(job: Job) -> Run:
  torch.set_num_threads(job.threads)
  a, b = torch.randn(2, job.options["size"], job.options["size"])

  def run(batches: Sequence[None]) -> float:
    for _ in batches:
      c = a @ b
    return c[0, 0].item()

  return run


def versions() -> dict[str, str]:
  return {"torch": torch.__version__, "transformers": transformers.__version__}


def _device(job: Job) -> torch.device:
  if job.platform == "gpu":
    torch.set_float32_matmul_precision("high")
    return torch.device("cuda")
  torch.set_num_threads(job.threads)
  return torch.device("cpu")


def _precision(job: Job) -> contextlib.AbstractContextManager:
  if job.options.get("autocast"):
    device = "cuda" if job.platform == "gpu" else "cpu"
    return torch.autocast(device, torch.bfloat16)
  return contextlib.nullcontext()


def _put(
  tensors: dict[str, torch.Tensor], device: torch.device
) -> dict[str, torch.Tensor]:
  """Copies tensors to the device asynchronously."""
  if device.type == "cpu":
    return tensors
  return {
    name: x.pin_memory().to(device, non_blocking=True)
    for name, x in tensors.items()
  }


def _longest(job: Job, rows: Rows) -> int:
  if job.options.get("trim"):
    return int((rows["sequence_ids"] > 0).sum(-1).max())
  return rows["token_ids"].shape[-1]


def _inputs(job: Job, rows: Rows) -> dict[str, torch.Tensor]:
  length = _longest(job, rows)
  tokens, segments, sequences = (
    torch.from_numpy(rows[name][:, :length]).long() for name in _ROW
  )
  return {
    "input_ids": tokens,
    "token_type_ids": segments,
    "attention_mask": (sequences > 0).long(),
  }


def _targets(job: Job, rows: Rows) -> dict[str, torch.Tensor]:
  pairs = torch.from_numpy(rows["next_sentence/labels"]).long()
  if job.options.get("gathered"):
    places = torch.from_numpy(rows["masked_lm/positions"]).long()
    words = torch.from_numpy(rows["masked_lm/ids"]).long()
    unused = torch.from_numpy(rows["masked_lm/weights"]) == 0
    words = words.masked_fill(unused, _IGNORED)
    return {
      "masked_positions": places,
      "labels": words,
      "next_sentence_label": pairs,
    }
  labels = peers.labels(rows, _IGNORED)[:, : _longest(job, rows)]
  # Transformers takes a view of the labels.
  words = torch.from_numpy(labels).contiguous()
  return {"labels": words, "next_sentence_label": pairs}

"""The PyTorch run of `benchmarks.finetune`: a plain loop over given rows.

  python -m benchmarks.finetune_torch JOB

JOB is the JSON file that `benchmarks.finetune` writes. Requires PyTorch and
Transformers, and does not import `bert_jax`. The last line of the output is the
results as JSON.
"""

import functools
import json
import pathlib
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import transformers
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence

from benchmarks.peers.pytorch import adamw

_IGNORED = -100
Row = Mapping[str, Any]


def collate(
  rows: Sequence[Row], config: transformers.PretrainedConfig
) -> dict[str, torch.Tensor]:
  """The inputs of a model: rows padded to the longest of them."""
  pad = functools.partial(pad_sequence, batch_first=True)
  ids, segments, labels = (
    [torch.tensor(row[name]) for row in rows]
    for name in ("token_ids", "segment_ids", "labels")
  )
  inputs = {
    "input_ids": pad(ids, padding_value=config.pad_token_id),
    "attention_mask": pad([torch.ones_like(x) for x in ids]),
    "labels": pad(labels, padding_value=_IGNORED)
    if labels[0].ndim
    else torch.stack(labels),
  }
  if hasattr(config, "type_vocab_size"):
    inputs["token_type_ids"] = pad(segments)
  return inputs


def train(
  model: transformers.PreTrainedModel, job: Mapping[str, Any]
) -> list[float]:
  """Trains on the batches of the job; returns the seconds of each update."""
  config = job["optimizer"]
  optimizer = adamw(model, config)
  schedule = transformers.get_linear_schedule_with_warmup(
    optimizer, config["warmup_steps"], len(job["batches"])
  )
  model.train()
  seconds = []
  for rows in job["batches"]:
    start = time.perf_counter()
    model(**collate(rows, model.config)).loss.backward()
    clip_grad_norm_(model.parameters(), config["clip_norm"])
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    seconds.append(time.perf_counter() - start)
  return seconds


@torch.inference_mode()
def evaluate(
  model: transformers.PreTrainedModel, rows: Sequence[Row], batch_size: int
) -> tuple[float, list[Any]]:
  """The mean loss of all labels, and the logits of each row."""
  model.eval()
  total, count, logits = 0.0, 0, []
  for begin in range(0, len(rows), batch_size):
    chunk = rows[begin : begin + batch_size]
    inputs = collate(chunk, model.config)
    outputs = model(**inputs)
    labels = int((inputs["labels"] != _IGNORED).sum())
    if labels:  # Without labels the loss is NaN.
      total, count = total + outputs.loss.item() * labels, count + labels
    logits += _unpadded(outputs.logits, chunk)
  return total / count, logits


def _unpadded(logits: torch.Tensor, rows: Sequence[Row]) -> Iterable[Any]:
  for values, row in zip(logits, rows):
    if values.ndim > 1:
      values = values[: len(row["token_ids"])]
    yield values.tolist()


def main() -> None:
  """Trains and evaluates."""
  job = json.loads(pathlib.Path(sys.argv[1]).read_text())
  torch.set_num_threads(job["threads"])
  torch.manual_seed(job["seed"])
  config = transformers.AutoConfig.from_pretrained(job["model"])
  architecture = getattr(transformers, config.architectures[0])
  model = architecture.from_pretrained(job["model"])
  measure = functools.partial(evaluate, model, job["eval"], job["batch_size"])
  loss_before, _ = measure()
  seconds = train(model, job)
  loss_after, logits = measure()
  results = {
    "loss_before": loss_before,
    "loss_after": loss_after,
    "seconds": seconds,
    "logits": logits,
    "versions": {
      module.__name__: module.__version__ for module in (torch, transformers)
    },
  }
  print(json.dumps(results))


if __name__ == "__main__":
  main()

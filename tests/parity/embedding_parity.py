"""Losses of embeddings, and their gradients, against sentence-transformers.

A small random BERT model with a published vocabulary, on real sentences, each
different; two rows more only pad on our side.
"""

import json
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import sentence_transformers
import torch
import transformers
from sentence_transformers import losses

import bert_jax
from bert_jax import tasks
from bert_jax.data import grouping
from bert_jax.interop import huggingface
from bert_jax.model import Model
from bert_jax.tasks import DATA
from tests.parity.minilm_parity import model_folder, real_sentences

_ROWS = 6
_LABELS = (0, 5, 2.5, 1, 4, 3)


def checks() -> Iterator[tuple[str, float, float]]:
  pairs, triplets = ("text", "pair"), ("text", "pair", "negative")
  ranking = losses.MultipleNegativesRankingLoss
  both_ways = losses.MultipleNegativesSymmetricRankingLoss
  similar = losses.CosineSimilarityLoss
  mean = {"pooling": ("mean",)}
  joined = {"pooling": ("cls", "max"), "normalize": True}
  for name, pooling, fields, changes, peer in (
    ("pairs", mean, pairs, {}, ranking),
    ("pairs, cls and max", joined, pairs, {}, ranking),
    ("negatives", mean, triplets, {}, ranking),
    ("both ways", mean, pairs, {"symmetric": True}, both_ways),
    ("both ways, negatives", mean, triplets, {"symmetric": True}, both_ways),
    ("similarity", mean, pairs, {"objective": "similarity"}, similar),
    ("similarity, cls", joined, pairs, {"objective": "similarity"}, similar),
  ):
    with tempfile.TemporaryDirectory() as folder:
      found = _compare(
        pathlib.Path(folder), fields, {**pooling, **changes}, peer
      )
      for what, worst, bound in found:
        yield f"embedding, {name}: {what}", worst, bound


def _compare(
  folder: pathlib.Path,
  fields: tuple[str, ...],
  settings: dict[str, Any],
  loss: type[torch.nn.Module],
) -> Iterator[tuple[str, float, float]]:
  config, tokenizer, params = _model(folder / "theirs")
  texts = iter(real_sentences())
  records = [
    {**{field: next(texts) for field in fields}, "label": label}
    for label in _LABELS
  ]
  path = folder / "records.jsonl"
  path.write_text("\n".join(map(json.dumps, records)))
  data = DATA["embedding"](
    (str(path),), (str(path),), targets={"similarity": settings}
  )
  task, training = tasks.make(data, config, tokenizer)
  value, gradients = _ours(task, training, params)
  named = huggingface.named_tensors(task, gradients)

  bert_jax.save(Model(task, params), folder / "ours")
  peer = sentence_transformers.SentenceTransformer(
    str(folder / "ours"), device="cpu"
  ).eval()
  features = [peer.tokenize([r[field] for r in records]) for field in fields]
  labels = torch.tensor(_LABELS) / max(_LABELS)
  theirs = loss(peer)(features, labels)
  theirs.backward()
  yield "loss", abs(value - theirs.item()), 1e-5
  learned = dict(peer[0].auto_model.named_parameters())
  expected = {
    name: parameter.grad.numpy()
    for name, parameter in learned.items()
    if parameter.grad is not None
  }
  assert expected.keys() == named.keys(), expected.keys() ^ named.keys()
  scale = max(np.abs(array).max() for array in expected.values())
  worst = max(
    float(np.abs(named[name] - array).max()) for name, array in expected.items()
  )
  yield "gradients, of the greatest", worst / scale, 1e-5


def _model(folder: pathlib.Path):
  """Encoder, vocabulary and parameters of a random model."""
  tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder())
  config = transformers.BertConfig(
    vocab_size=len(tokenizer),
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
  )
  torch.manual_seed(0)
  peer = transformers.BertModel(config, add_pooling_layer=False)
  with torch.no_grad():
    for parameter in peer.parameters():
      parameter += 0.2 * torch.randn_like(parameter)
  peer.save_pretrained(folder)
  tokenizer.save_pretrained(folder)
  ours = bert_jax.load(folder, "embedding")
  return ours.task.config, ours.tokenizer, ours.params


def _ours(task, training, params) -> tuple[float, Any]:
  examples = [e for made in training.evaluation().examples for e in made]
  batch = grouping.pad(examples, task.axes, _ROWS + 2)

  def objective(params):
    outputs = task.module.apply({"params": params}, batch)
    (mean,) = task.loss(outputs, batch).values()
    return mean.value()

  value, gradients = jax.jit(jax.value_and_grad(objective))(params)
  return float(value), gradients

"""The pretraining model against PyTorch's BertForPreTraining.

Random weights and sizes; the same weights on both sides. Compared are the
logits, the two losses together, and the gradients of every parameter.
"""

from collections.abc import Iterator

import jax
import numpy as np
import torch
import transformers

from bert_jax import trees
from bert_jax.models.config import EncoderConfig
from bert_jax.models.heads import PretrainingModel
from bert_jax.tasks import pretraining
from bert_jax.types import Batch

# (layers, heads, depth, intermediate, vocabulary, rows, length, activation)
_SIZES = [
  (1, 1, 8, 16, 31, 1, 3, "gelu"),
  (2, 3, 8, 50, 97, 3, 17, "gelu"),
  (3, 4, 16, 128, 211, 4, 33, "gelu_tanh"),
]
_RENAMED = {
  "encoder/embeddings/word": "bert.embeddings.word_embeddings",
  "encoder/embeddings/position": "bert.embeddings.position_embeddings",
  "encoder/embeddings/segment": "bert.embeddings.token_type_embeddings",
  "encoder/embeddings/norm": "bert.embeddings.LayerNorm",
  "pooler": "bert.pooler.dense",
  "masked_lm/transform": "cls.predictions.transform.dense",
  "masked_lm/norm": "cls.predictions.transform.LayerNorm",
  "masked_lm": "cls.predictions",
  "next_sentence": "cls.seq_relationship",
}
_RENAMED_IN_LAYER = {
  "attention/query": "attention.self.query",
  "attention/key": "attention.self.key",
  "attention/value": "attention.self.value",
  "attention/output": "attention.output.dense",
  "attention_norm": "attention.output.LayerNorm",
  "feed_forward/intermediate": "intermediate.dense",
  "feed_forward/output": "output.dense",
  "feed_forward_norm": "output.LayerNorm",
}
_LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}


def _peer_name(path: str) -> str:
  module, leaf = path.rsplit("/", 1)
  leaf = _LEAVES.get(leaf, leaf)
  if module in _RENAMED:
    return f"{_RENAMED[module]}.{leaf}"
  number, inner = module.removeprefix("encoder/layer_").split("/", 1)
  return f"bert.encoder.layer.{number}.{_RENAMED_IN_LAYER[inner]}.{leaf}"


def _ours(peer: dict[str, torch.Tensor], shapes) -> dict:
  """The peer's tensors, or gradients, as a tree like ours."""

  def take(path, _):
    value = peer[_peer_name(path)].detach().numpy()
    return value.T if path.endswith("kernel") else value

  return trees.map_with_path(take, shapes)


def _batch(rng, vocabulary: int, rows: int, length: int) -> Batch:
  lengths = rng.integers(3, length + 1, (rows, 1))
  used = np.arange(length) < lengths
  positions = np.sort(rng.permuted(np.tile(np.arange(3), (rows, 1)), axis=1))
  return Batch(
    token_ids=np.where(used, rng.integers(1, vocabulary, (rows, length)), 0),
    segment_ids=(used & (np.arange(length) > 1)).astype(np.int32),
    position_ids=np.tile(np.arange(length), (rows, 1)),
    sequence_ids=used.astype(np.int32),
    targets={
      "masked_positions": positions[:, :2],
      "masked_ids": rng.integers(0, vocabulary, (rows, 2)),
      "masked_weights": np.ones((rows, 2), np.float32),
      "next_sentence_labels": rng.integers(0, 2, rows),
      "next_sentence_weights": np.ones(rows, np.float32),
    },
  )


def checks() -> Iterator[tuple[str, float, float]]:
  for layers, heads, depth, inner, vocabulary, rows, length, name in _SIZES:
    config = EncoderConfig(
      vocab_size=vocabulary,
      hidden_size=heads * depth,
      num_layers=layers,
      num_heads=heads,
      intermediate_size=inner,
      max_positions=length + 2,
      activation=name,
      hidden_dropout=0.0,
      attention_dropout=0.0,
    )
    rng = np.random.default_rng(layers)
    batch = _batch(rng, vocabulary, rows, length)
    title = f"pretraining {layers}x{config.hidden_size} {name}"
    for what, worst, bound in _compare(config, batch):
      yield f"{title}: {what}", worst, bound


def _peer(config: EncoderConfig) -> transformers.BertForPreTraining:
  torch.manual_seed(0)
  peer = transformers.BertForPreTraining(
    transformers.BertConfig(
      vocab_size=config.vocab_size,
      hidden_size=config.hidden_size,
      num_hidden_layers=config.num_layers,
      num_attention_heads=config.num_heads,
      intermediate_size=config.intermediate_size,
      max_position_embeddings=config.max_positions,
      hidden_act={"gelu": "gelu", "gelu_tanh": "gelu_new"}[config.activation],
      hidden_dropout_prob=0.0,
      attention_probs_dropout_prob=0.0,
    )
  )
  with torch.no_grad():
    for parameter in peer.parameters():
      parameter += 0.2 * torch.randn_like(parameter)
  return peer


def _compare(
  config: EncoderConfig, batch: Batch
) -> Iterator[tuple[str, float, float]]:
  peer, model = _peer(config), PretrainingModel(config)
  targets = batch.targets
  labels = np.full(batch.token_ids.shape, -100)
  np.put_along_axis(
    labels, targets["masked_positions"], targets["masked_ids"], axis=1
  )
  theirs = peer(
    input_ids=torch.tensor(batch.token_ids),
    attention_mask=torch.tensor(batch.sequence_ids),
    token_type_ids=torch.tensor(batch.segment_ids),
    labels=torch.tensor(labels),
    next_sentence_label=torch.tensor(targets["next_sentence_labels"]),
  )
  theirs.loss.backward()
  shapes = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
  params = _ours(dict(peer.named_parameters()), shapes)

  def loss(params):
    outputs = model.apply({"params": params}, batch)
    means = pretraining.loss(outputs, batch)
    return sum(mean.value() for mean in means.values()), outputs

  (value, outputs), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(
    params
  )
  words = np.take_along_axis(
    theirs.prediction_logits.detach().numpy(),
    targets["masked_positions"][..., None],
    axis=1,
  )
  pairs = theirs.seq_relationship_logits.detach().numpy()
  yield "masked-LM logits", float(np.abs(outputs.masked_lm - words).max()), 1e-5
  yield "NSP logits", float(np.abs(outputs.next_sentence - pairs).max()), 1e-5
  yield "loss", abs(float(value) - theirs.loss.item()), 1e-5
  expected = _ours({n: p.grad for n, p in peer.named_parameters()}, shapes)
  worst = jax.tree.map(lambda a, b: np.abs(a - b).max(), gradients, expected)
  yield "gradients", float(max(jax.tree.leaves(worst))), 1e-4

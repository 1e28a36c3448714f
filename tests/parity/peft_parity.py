"""Adapters of peft, opened here, and ours in peft.

For every family: peft adapts a random model of Transformers and saves it; here
it is opened, merged and beside the base, saved again, and opened in peft.
"""

import pathlib
import tempfile
import warnings
from collections.abc import Iterator

import jax
import numpy as np
import peft
import torch
from sentence_transformers import SentenceTransformer

import bert_jax
from bert_jax import trees
from bert_jax.interop.families import FAMILIES
from bert_jax.interop.huggingface_config import has_heads
from bert_jax.interop.peft import Adapter
from bert_jax.models.low_rank import LowRank
from bert_jax.tasks import TASKS
from tests.parity import peers
from tests.parity.families_parity import (
  batch_of,
  comparable,
  labels_of,
  run_peer,
)
from tests.parity.minilm_parity import model_folder, real_sentences

_TYPES = {
  "classification": "SEQ_CLS",
  "tagging": "TOKEN_CLS",
  "question_answering": "QUESTION_ANS",
  "embedding": "FEATURE_EXTRACTION",
}
_TARGETS = {"distilbert": ["q_lin", "v_lin"], "mpnet": ["q", "v"]}
_TARGETS |= {"deberta-v2": ["query_proj", "value_proj"], "modernbert": ["Wqkv"]}


def checks() -> Iterator[tuple[str, float, float]]:
  warnings.filterwarnings("ignore")
  for family in FAMILIES:
    targets = _TARGETS.get(family, ["query", "value"])
    settings = {"target_modules": targets, "r": 3, "lora_alpha": 5}
    for task in _TYPES:
      if has_heads(FAMILIES[family], TASKS[task]):
        yield from _compare(family, task, "", settings)
  for name, settings in {
    "all layers, rslora": {"target_modules": "all-linear", "use_rslora": True},
    "ranks and alphas": {
      "target_modules": ["query", "key"],
      "rank_pattern": {"layer.1.attention.self.query": 2},
      "alpha_pattern": {"^bert.encoder.layer.0.*key": 3},
    },
    "biases": {"target_modules": ["value"], "bias": "lora_only"},
  }.items():
    yield from _compare("bert", "classification", name, settings)
  yield from _embeddings()
  joined = {"target_modules": ["Wqkv", "Wi"]}
  yield from _compare("modernbert", "tagging", "joined", joined)


def _embeddings() -> Iterator[tuple[str, float, float]]:
  """An adapter of ours in sentence-transformers, and saved by it."""
  base, sentences = bert_jax.load(model_folder()), real_sentences()[:8]
  rng = np.random.default_rng(0)

  def draw(*shape):
    return rng.normal(0, 0.05, shape).astype(np.float32)

  products = {
    path: LowRank(draw(x.shape[0], 4), draw(4, x.shape[1]), 2.0)
    for path, x in trees.flatten(base.params).items()
    if path.endswith("/value/kernel")
  }
  adapter = Adapter("made", str(model_folder()), base.task, products, {})
  beside = base.with_adapter(adapter)
  expected = beside.embed(sentences)
  with tempfile.TemporaryDirectory() as made:
    folder = pathlib.Path(made)
    bert_jax.save(beside, folder / "ours", "peft")
    model = SentenceTransformer(str(folder / "ours"), device="cpu")
    worst = np.abs(model.encode(sentences) - expected).max()
    yield "peft, MiniLM: in sentence-transformers", float(worst), 1e-5
    model.save_pretrained(str(folder / "theirs"))
    found = bert_jax.load(folder / "theirs").embed(sentences)
    worst = np.abs(found - expected).max()
    yield "peft, MiniLM: saved by it", float(worst), 1e-5


def _compare(
  family: str, task: str, name: str, settings: dict
) -> Iterator[tuple[str, float, float]]:
  where = f"peft, {family} {task} {name}".strip()
  with tempfile.TemporaryDirectory() as made:
    folder = pathlib.Path(made)
    peers.make_peer(family, task, {}).save_pretrained(folder / "base")

    def base():
      return peers.reopened(folder / "base", peers.make_peer(family, task, {}))

    adapted = peft.get_peft_model(
      base(), peft.LoraConfig(task_type=_TYPES[task], **settings)
    ).eval()
    with torch.no_grad():
      for parameter in adapted.parameters():
        if parameter.requires_grad:
          parameter += 0.2 * torch.randn_like(parameter)
    adapted.save_pretrained(folder / "theirs")
    plain = bert_jax.load(folder / "base")
    rng = np.random.default_rng(0)
    batch = batch_of(plain.task, rng)
    labels = labels_of(plain.task, batch, rng)

    def theirs(model):
      inner = model.base_model.model
      inner.config.problem_type = None
      return run_peer(inner, plain.task, batch, labels)["outputs"]

    @jax.jit
    def apply(params):
      return plain.module.apply({"params": params}, batch)

    def ours(model):
      assert model.task.state() == plain.task.state()
      outputs = jax.tree.leaves(apply(model.in_float32().params))
      return comparable(plain.task, batch, [*map(np.asarray, outputs)])

    def worst(outputs):
      return max(float(np.abs(a - b).max()) for a, b in zip(outputs, expected))

    expected = theirs(adapted)
    yield (
      f"{where}: merged",
      worst(ours(bert_jax.load(folder / "theirs"))),
      1e-5,
    )
    beside = plain.with_adapter(folder / "theirs")
    yield f"{where}: beside", worst(ours(beside)), 1e-5
    if name == "biases":
      return
    bert_jax.save(beside, folder / "ours", "peft")
    again = peft.PeftModel.from_pretrained(
      base(), folder / "ours", is_trainable=True
    )
    yield f"{where}: in peft", worst(theirs(again.eval())), 1e-5

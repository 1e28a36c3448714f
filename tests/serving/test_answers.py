"""What the server answers is what the model answers, for every task."""

import httpx
import huggingface_hub
import jax
import msgspec
import numpy as np
import pytest

from bert_jax.engines.onnx import OnnxForward
from bert_jax.export import onnx
from bert_jax.predictor import Predictor
from bert_jax.serving import bodies
from bert_jax.serving.client import Client
from bert_jax.serving.engine import Engine
from bert_jax.serving.metrics import Metrics
from bert_jax.serving.served import Served
from tests.serving import servers

TEXT, OTHER = "the array is in place", "it sorts names"
RECORDS = {
  "classification": [TEXT, {"text": OTHER, "pair": TEXT}],
  "dialogue": [TEXT, {"words": ["it", "sorts", "names"]}],
  "embedding": [TEXT, OTHER],
  "masked_lm": ["the [MASK] is in [MASK]", "[MASK] sorts"],
  "multi_label": [TEXT, {"text": OTHER, "pair": TEXT}],
  "multiple_choice": [
    {"text": TEXT, "choices": [OTHER, "a list"]},
    {"text": OTHER, "choices": ["names", "the list", TEXT]},
  ],
  "next_sentence": [{"text": TEXT, "pair": OTHER}],
  "question_answering": [
    {"question": "it sorts", "context": 9 * f"{TEXT} {OTHER} "},
    {"question": "names", "context": TEXT},
  ],
  "regression": [TEXT, {"text": OTHER, "pair": TEXT}],
  "replaced_tokens": [TEXT, OTHER],
  "tagging": [20 * f"{TEXT} ", {"words": ["it", "sorts", "names"]}],
}


def predictor(name):
  """A model with random parameters, on ONNX Runtime."""
  task = servers.task(name)
  random = np.random.default_rng(0)
  shapes = jax.eval_shape(task.init_params, jax.random.key(0))
  params = jax.tree.map(
    lambda x: random.normal(size=x.shape).astype(np.float32) / 4, shapes
  )
  model = onnx.build(task, params).SerializeToString()
  return Predictor(task, OnnxForward(model, task, threads=1))


@pytest.fixture(scope="module")
def models():
  return {name: predictor(name) for name in RECORDS}


@pytest.fixture(scope="module")
def url(models):
  core, metrics, limits = Engine(), Metrics(), servers.settings()
  served = [
    Served(name, "1", "onnx", model, core, metrics, limits)
    for name, model in models.items()
  ]
  with servers.serving(*served) as (port, _, _):
    yield f"http://127.0.0.1:{port}"
  core.stop()


def plain(answers):
  return msgspec.json.decode(bodies.encode(answers))


def assert_same(found, expected):
  if isinstance(expected, dict):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
      assert_same(found[key], value)
  elif isinstance(expected, list):
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
      assert_same(one, other)
  elif isinstance(expected, float):
    assert found == pytest.approx(expected, abs=1e-6)
  else:
    assert found == expected


@pytest.mark.parametrize("name", RECORDS)
def test_answers_are_those_of_the_model(models, url, name):
  with Client(url) as client:
    found = client.predict(RECORDS[name], model=name)
  assert_same(found, plain(models[name](RECORDS[name])))


def test_vectors_are_those_of_the_model(models, url):
  model, texts = models["embedding"], [TEXT, OTHER, *TEXT.split()]
  with Client(url, model="embedding", batch_size=3) as client:
    np.testing.assert_allclose(
      client.embed(texts), model.embed(texts), atol=1e-6
    )
    np.testing.assert_allclose(
      client.embed(texts, dimensions=5, normalize=True),
      model.embed(texts, truncate_dim=5, normalize=True),
      atol=1e-6,
    )
  # Every model has vectors of texts.
  with Client(url, model="classification") as client:
    np.testing.assert_allclose(
      client.embed(TEXT), models["classification"].embed(TEXT), atol=1e-6
    )


def test_outputs_are_those_of_the_model(models, url):
  def post(path, **body):
    return httpx.post(url + path, json=body, timeout=30).json()

  scores = models["classification"]([TEXT])[0]
  found = post("/predict?model=classification", inputs=TEXT)
  assert_same(
    found, [{"score": x.probability, "label": x.label} for x in scores]
  )
  logits = post("/predict?model=classification", inputs=TEXT, raw_scores=True)
  odds = logits[0]["score"] - logits[1]["score"]
  assert 1 / (1 + np.exp(-odds)) == pytest.approx(scores[0].probability)
  texts = ["a list", OTHER]
  ranks = post("/rerank?model=regression", query=TEXT, texts=texts)
  pairs = [{"text": TEXT, "pair": text} for text in texts]
  values = models["regression"](pairs, activation="sigmoid")
  assert_same(
    {rank["index"]: rank["score"] for rank in ranks},
    {index: value[0].value for index, value in enumerate(values)},
  )
  (tokens,) = post("/embed_all?model=embedding", inputs=TEXT)
  assert len(tokens) == len(models["embedding"].tokenizer.encode(TEXT).ids)
  (sparse,) = post("/embed_sparse?model=masked_lm", inputs=TEXT)
  assert all(entry["value"] > 0 for entry in sparse)


def test_the_client_of_hugging_face(models, url):
  address = f"{url}/?model=embedding"
  client = huggingface_hub.InferenceClient(model=address)
  expected = models["embedding"].embed(TEXT)
  found = client.feature_extraction(TEXT)
  np.testing.assert_allclose(found, [expected], atol=1e-6)
  found = client.sentence_similarity(TEXT, other_sentences=[TEXT, OTHER])
  assert found[0] == pytest.approx(1.0, abs=1e-6)

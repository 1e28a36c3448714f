"""The server's answers beside those of the model."""

import asyncio
import functools

import numpy as np
import pytest

from bert_jax.engines.onnx import OnnxForward
from bert_jax.export import onnx
from bert_jax.predictor import Predictor
from bert_jax.serving.engine import Engine
from bert_jax.serving.errors import ServingError
from bert_jax.serving.metrics import Metrics
from bert_jax.serving.served import Served, Usage
from bert_jax.serving.settings import ServeSettings
from tests.tasks import cases

# One for each kind of inputs, and for each axis of predictions.
TASKS = (
  "classification",
  "embedding",
  "masked_lm",
  "multiple_choice",
  "question_answering",
  "tagging",
)


@functools.cache
def exported(name):
  model = cases.model(name)
  made = onnx.build(model.task, model.params).SerializeToString()
  return Predictor(model.task, OnnxForward(made, model.task, threads=1))


def serve(model, scenario, engine="onnx", **changes):
  async def main():
    core = Engine()
    settings = ServeSettings({"m": "unused"}, **changes)
    try:
      served = Served("m", "1", engine, model, core, Metrics(), settings)
      return await asyncio.wait_for(scenario(served), 60)
    finally:
      core.stop()

  return asyncio.run(main())


@pytest.mark.parametrize("name", TASKS)
def test_answers_are_those_of_the_model(name):
  model = exported(name)
  records = [cases.RECORDS[name], *cases.OTHERS[name]]

  async def scenario(served):
    served.try_out(records[:1])
    together = await asyncio.gather(*(served.answer([x]) for x in records))
    joined = await served.answer(records)
    alone = [await served.answer([x]) for x in records]
    return [x[0] for x in together], joined, [x[0] for x in alone]

  for found in serve(model, scenario):
    cases.assert_same(found, model(records))


def test_vectors_are_those_of_the_model_alone_and_in_any_batch():
  model = exported("embedding")
  texts = ["the array", cases.TEXT, cases.LONG, "", "it sorts " * 3]
  settings = [
    {},
    {"normalize": True},
    {"prompt": "list "},
    {"truncate_dim": 4, "normalize": True},
  ]

  async def scenario(served):
    usage = Usage()
    together = await asyncio.gather(
      *(served.embed(texts, usage=usage, **changes) for changes in settings)
    )
    alone = [
      [(await served.embed([text], **changes))[0] for text in texts]
      for changes in settings
    ]
    with pytest.raises(ServingError, match="prompt_name"):
      await served.embed(texts, prompt_name="unknown")
    tokens = await served.outputs(texts, "token_embeddings")
    return together, alone, tokens, usage.tokens

  together, alone, tokens, count = serve(model, scenario)
  for found, single, changes in zip(together, alone, settings):
    np.testing.assert_allclose(found, single, atol=1e-6)
    expected = model.embed(texts, **changes)
    np.testing.assert_allclose(found, expected, atol=1e-6)
  ids = [len(model.tokenizer.encode(text).ids) for text in texts]
  assert [len(x) for x in tokens] == [
    min(n, cases.ENCODER.max_positions) for n in ids
  ]
  assert count >= 3 * sum(map(len, tokens))


def test_jax_answers_from_the_shapes_that_were_compiled():
  model = cases.model("classification")
  records = [cases.RECORDS["classification"], *cases.OTHERS["classification"]]

  async def scenario(served):
    served.try_out(records[:1])
    return await served.answer(records * 2)

  found = serve(model, scenario, engine="jax", max_batch_rows=1)
  cases.assert_same(found, model(records * 2))

import dataclasses

import jax
import numpy as np
import pytest

from bert_jax.data import grouping
from bert_jax.model import Model
from bert_jax.models.pooling import VectorModule
from bert_jax.predictor import Predictor
from bert_jax.tasks import EMBEDDING, TASKS
from bert_jax.tasks.targets.similarity import Similarity
from tests import small
from tests.errors import user_error

TEXTS = ["the array is a list", "it sorts", "names of the list and names"]


class OtherEngine:
  """The forward pass of a model as another engine has it: in NumPy."""

  def __init__(self, model, outputs=None):
    self._forward = model.forward
    self.outputs = outputs or self._forward.outputs

  def __call__(self, batch, names=None):
    return jax.device_get(self._forward(batch, names))


def batch_of(texts):
  task = small.model().embedding_task()
  examples = [task.preprocess({"text": text})[0] for text in texts]
  return grouping.pad(examples)


def model_of(task, seed=0):
  task = task.bind(small.ENCODER, small.tokenizer())
  params = jax.jit(task.init_params)(jax.random.key(seed))
  return Model(task, jax.tree.map(lambda x: 10 * x, params), batch_size=2)


def test_extra_outputs_are_of_the_same_parameters():
  model, batch = small.model(), batch_of(TEXTS)
  names = ("sparse_embedding", "token_embeddings")
  found = jax.device_get(model.forward(batch, names))
  assert [*found] == [*names]
  encodings = model.encode(TEXTS)
  hidden = found["token_embeddings"][:3]
  np.testing.assert_allclose(hidden, encodings.last_hidden_state, atol=1e-5)
  # The logits of all tokens, by the head itself.
  length = batch.token_ids.shape[1]
  positions = np.tile(np.arange(length, dtype=np.int32), (4, 1))
  every = dataclasses.replace(batch, targets={"masked_lm/positions": positions})
  logits = np.asarray(model.forward(every)["masked_lm"])
  used = batch.sequence_ids[..., None] > 0
  expected = (np.log1p(np.maximum(logits, 0)) * used).max(1)
  np.testing.assert_allclose(found["sparse_embedding"], expected, atol=1e-5)


def test_outputs_that_a_model_lacks_are_named():
  model = model_of(EMBEDDING)
  assert model.forward.outputs == ("hidden_states", "token_embeddings")
  with user_error("output: .*'sparse_embedding'.*token_embeddings"):
    model.forward(batch_of(TEXTS), ("sparse_embedding",))


MASKED = ["the [MASK] is a [MASK]", "[MASK] sorts"]


def test_answers_do_not_depend_on_the_engine():
  model = small.model()
  found = Predictor(model.task, OtherEngine(model), 4)(MASKED, top_k=3)
  for theirs, ours in zip(found, model(MASKED, top_k=3), strict=True):
    for own, expected in zip(theirs, ours, strict=True):
      assert [c.token for c in own] == [c.token for c in expected]
      assert [c.probability for c in own] == pytest.approx(
        [c.probability for c in expected], rel=1e-4
      )


CHANGES = [
  {},
  {"pooling": ("cls", "max", "weightedmean"), "normalize": True},
  {"pooling": ("lasttoken", "mean_sqrt_len_tokens"), "truncate_dim": 20},
  {"prompt": "a list: ", "max_length": 6},
]


@pytest.mark.parametrize("task", ["embedding", "masked_lm", "classification"])
def test_vectors_do_not_depend_on_the_engine(task):
  model = model_of(TASKS[task].for_published())
  other = Predictor(model.task, OtherEngine(model))
  for changes in CHANGES:
    expected = model.embed(TEXTS, **changes)
    np.testing.assert_allclose(
      other.embed(TEXTS, **changes), expected, rtol=1e-4, atol=1e-5
    )
  assert len(model._embedding_forwards) == 1
  assert other.embedder() is other.embedder()
  assert other.embed([]).shape == model.embed([]).shape


def test_pooling_inside_an_exported_model_cannot_be_changed():
  modules = (VectorModule("dense", 6),)
  target = Similarity(pooling=("mean",), modules=modules)
  model = model_of(EMBEDDING.with_targets({"similarity": target}))
  other = Predictor(model.task, OtherEngine(model, ("vectors",)))
  np.testing.assert_allclose(
    other.embed(TEXTS, normalize=True),
    model.embed(TEXTS, normalize=True),
    rtol=1e-4,
    atol=1e-5,
  )
  assert model.embed(TEXTS, pooling=("max",)).shape == (3, 6)
  with user_error("embed.pooling: this exported model"):
    other.embed(TEXTS, pooling=("max",))


@pytest.mark.parametrize("takes_all", [False, True])
def test_an_engine_that_compiles_nothing_gets_little_padding(
  takes_all,
):
  model, shapes = small.model(), []

  class Counting(OtherEngine):
    dynamic_shapes = takes_all

    def __call__(self, batch, names=None):
      shapes.append(batch.token_ids.shape)
      positions = batch.targets["masked_lm/positions"].shape
      return {
        "masked_lm": np.zeros((*positions, 24), np.float32),
        "next_sentence": np.zeros((len(batch.token_ids), 1, 2), np.float32),
      }

  Predictor(model.task, Counting(model))(["the [MASK]", "[MASK]", "[MASK] a"])
  assert shapes == [(3, 4) if takes_all else (4, 16)]


def test_a_model_without_vectors_says_so():
  model = model_of(TASKS["classification"])
  other = Predictor(model.task, OtherEngine(model, ("classifier",)))
  with user_error("embed: this model has no token_embeddings"):
    other.embed(TEXTS)

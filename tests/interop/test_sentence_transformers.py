import dataclasses
import json

import jax
import numpy as np
import pytest

import bert_jax
from bert_jax.data.grouping import pad
from bert_jax.interop import sentence_transformers
from bert_jax.tasks import EMBEDDING
from bert_jax.tasks.inputs.pairs import Pairs
from bert_jax.tasks.targets.similarity import Similarity
from tests import small
from tests.errors import user_error
from tests.interop import folders

TEXTS = ["the array is in place", "names", "it sorts them and it sorts a list"]


@pytest.fixture
def folder(tmp_path):
  """A folder in the format of sentence-transformers, written by hand."""
  bert_jax.save(folders.model("bert", "embedding"), tmp_path / "model")
  write_modules(tmp_path / "model", ["Transformer", "Pooling", "Normalize"])
  write_pooling(tmp_path / "model", "cls_token")
  settings = {"max_seq_length": 6, "do_lower_case": False}
  write(tmp_path / "model" / "sentence_bert_config.json", settings)
  return tmp_path / "model"


def write(path, content):
  path.parent.mkdir(exist_ok=True)
  path.write_text(json.dumps(content))


def write_modules(folder, kinds):
  modules = [
    {
      "idx": i,
      "name": str(i),
      "path": f"{i}_{kind}" if i else "",
      "type": f"sentence_transformers.models.{kind}",
    }
    for i, kind in enumerate(kinds)
  ]
  write(folder / "modules.json", modules)


def write_pooling(folder, *modes):
  content = {f"pooling_mode_{mode}": True for mode in modes}
  write(folder / "1_Pooling" / "config.json", content)


def settings_of(task):
  """The settings of sentence-transformers, as a task has them."""
  return task.inputs, task.targets["similarity"]


def test_settings_are_read(folder):
  assert settings_of(bert_jax.load(folder).task) == (
    Pairs(max_length=6),
    Similarity(("cls",), normalize=True),
  )
  write_modules(folder, ["Transformer", "Pooling"])
  write_pooling(folder, "max_tokens", "mean_tokens")
  (folder / "sentence_bert_config.json").unlink()
  assert settings_of(bert_jax.load(folder).task) == (
    Pairs(),
    Similarity(("max", "mean")),
  )


def test_settings_of_release_6_are_read(folder):
  write(folder / "1_Pooling" / "config.json", {"pooling_mode": ["max", "cls"]})
  write(folder / "sentence_bert_config.json", {"transformer_task": "x"})
  path = folder / "tokenizer_config.json"
  write(path, json.loads(path.read_text()) | {"model_max_length": 7})
  assert settings_of(bert_jax.load(folder).task) == (
    Pairs(max_length=7),
    Similarity(("cls", "max"), normalize=True),
  )


def test_the_default_prompt_is_prepended_to_every_text(folder):
  settings = {"prompts": {"q": "names "}, "default_prompt_name": "q"}
  write(folder / "config_sentence_transformers.json", settings)
  model = bert_jax.load(folder)
  expected = model.embed("names a list", prompt="")
  np.testing.assert_allclose(model.embed("a list"), expected, atol=1e-6)


@pytest.mark.parametrize(
  ("inputs", "target"),
  [
    (Pairs(), Similarity(("mean",))),
    (Pairs(9), Similarity(("cls", "max", "mean"), normalize=True)),
    (Pairs(prompt="query: "), Similarity(("mean",))),
  ],
)
def test_settings_survive_a_round_trip(tmp_path, inputs, target):
  task = dataclasses.replace(
    EMBEDDING, inputs=inputs, targets={"similarity": target}
  ).bind(folders.encoder("bert"), small.tokenizer())
  sentence_transformers.write(tmp_path, task)
  found = sentence_transformers.read(tmp_path, task.config)
  assert settings_of(found) == (inputs, target)


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("modules.json", "{", "damaged"),
    ("modules.json", "[3]", "damaged"),
    (
      "modules.json",
      '[{"path": "2", "type": "x.Dense"}]',
      "the module Dense is not supported",
    ),
    (
      "modules.json",
      '[{"path": "../x", "type": "x.Pooling"}]',
      "expected a folder's name, got '../x'",
    ),
    (
      "1_Pooling/config.json",
      '{"pooling_mode_lasttoken": true}',
      "the pooling 'lasttoken' is not supported",
    ),
    ("1_Pooling/config.json", "{}", "expected a pooling mode, got"),
    (
      "sentence_bert_config.json",
      '{"max_seq_length": "long"}',
      "max_seq_length: expected a length, got 'long'",
    ),
    (
      "config_sentence_transformers.json",
      '{"default_prompt_name": "q"}',
      "default_prompt_name: no prompt 'q'",
    ),
  ],
)
def test_unsupported_settings_are_refused(folder, name, content, message):
  (folder / name).write_text(content)
  with user_error(message):
    bert_jax.load(folder)


def test_embeddings_are_the_pooled_hidden_states(folder):
  model = bert_jax.load(folder)
  vectors = model.embed(TEXTS)
  assert vectors.shape == (3, 16)
  assert vectors.dtype == np.float32
  np.testing.assert_allclose(model(TEXTS), vectors)
  examples = [model.task.preprocess({"text": text})[0] for text in TEXTS]
  assert max(example.token_ids.size for example in examples) == 6
  apply = jax.jit(model.task.module.apply)
  hidden = apply({"params": model.params}, pad(examples))["hidden_states"]
  first = np.asarray(hidden)[:3, 0]
  first = first / np.linalg.norm(first, axis=-1, keepdims=True)
  np.testing.assert_allclose(vectors, first, atol=1e-6)


def test_embeddings_of_a_model_with_another_head():
  model = folders.model("bert", "classification")
  as_encoder = folders.model("bert", "embedding")
  assert model.embed(TEXTS[0]).shape == (16,)
  assert model.embed([]).shape == (0, 16)
  assert model.embed(TEXTS, pooling=["max", "cls"]).shape == (3, 32)
  assert np.isfinite(as_encoder.embed("")).all()
  for options, message in (
    ({"pooling": "sum"}, "embed.pooling: expected some of cls, max, mean"),
    ({"normalise": True}, "embed: setting: unknown 'normalise'; did you mean"),
  ):
    with user_error(message):
      model.embed(TEXTS, **options)
  with user_error("input 2: expected a text"):
    model.embed(["a", 3])

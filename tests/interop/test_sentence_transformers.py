import dataclasses
import json

import jax
import numpy as np
import pytest

import bert_jax
from bert_jax.data.grouping import pad
from bert_jax.interop import sentence_transformers
from bert_jax.models.pooling import VectorModule
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
    Similarity(("max", "cls"), normalize=True),
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
    (
      Pairs(
        prompt="query: ",
        prompts={"q": "query: ", "d": "text: "},
        include_prompt=False,
        lower_case=True,
      ),
      Similarity(("lasttoken", "mean_sqrt_len_tokens", "weightedmean")),
    ),
    (
      Pairs(),
      Similarity(
        normalize=True,
        pooling=("mean",),
        modules=(
          VectorModule("normalize"),
          VectorModule("dense", 5, bias=False, activation="tanh"),
          VectorModule("layer_norm"),
        ),
        truncate_dim=3,
      ),
    ),
  ],
)
def test_settings_survive_a_round_trip(tmp_path, inputs, target):
  task = dataclasses.replace(
    EMBEDDING, inputs=inputs, targets={"similarity": target}
  ).bind(folders.encoder("bert"), small.tokenizer())
  sentence_transformers.write(tmp_path, task, {})
  found = sentence_transformers.read(tmp_path, task.config)
  assert settings_of(found) == (inputs, target)


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("modules.json", "{", "damaged"),
    ("modules.json", "[3]", "damaged"),
    (
      "modules.json",
      '[{"path": "2", "type": "x.CNN"}]',
      "the module CNN is not supported",
    ),
    (
      "modules.json",
      '[{"path": "../x", "type": "x.Pooling"}]',
      "expected a folder's name, got '../x'",
    ),
    (
      "1_Pooling/config.json",
      '{"pooling_mode": "lasttokens"}',
      "pooling_mode: unknown 'lasttokens'; did you mean 'lasttoken'",
    ),
    (
      "1_Pooling/config.json",
      '{"pooling_mode": 3}',
      "expected a pooling mode, got 3",
    ),
    (
      "config_sentence_transformers.json",
      '{"truncate_dim": "half"}',
      "truncate_dim: expected a width, got 'half'",
    ),
    (
      "config_sentence_transformers.json",
      '{"model_type": "CrossEncoder"}',
      "the module Pooling is not supported in a CrossEncoder",
    ),
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


def test_modules_after_pooling_come_back_bit_for_bit(tmp_path):
  base = folders.model("bert", "embedding")
  modules = (
    VectorModule("dense", 5, activation="tanh"),
    VectorModule("layer_norm"),
  )
  target = Similarity(("mean",), normalize=True, modules=modules)
  task = base.task.with_targets({"similarity": target})
  model = base.with_task(task)
  bert_jax.save(model, tmp_path / "saved")
  again = bert_jax.load(tmp_path / "saved")
  folders.assert_same(model, again)
  vectors = again.embed(TEXTS)
  assert vectors.shape == (3, 5)
  np.testing.assert_allclose(
    again.embed(TEXTS, truncate_dim=2), vectors[:, :2], atol=1e-6
  )
  shorter = again.embed(TEXTS, truncate_dim=2, normalize=True)
  np.testing.assert_allclose(np.linalg.norm(shorter, axis=1), 1, atol=1e-6)
  with user_error("layers after 1 pooling modes, got 2"):
    again.embed(TEXTS, pooling=("cls", "mean"))


def test_prompts_by_name_and_tokens_that_are_not_pooled(folder):
  write(
    folder / "config_sentence_transformers.json",
    {"prompts": {"q": "names ", "query": None}, "truncate_dim": 4},
  )
  write(folder / "1_Pooling" / "config.json", {"include_prompt": False})
  model = bert_jax.load(folder)
  assert model.embed("a list").shape == (4,)
  plain = model.embed("a list", prompt="names ")
  np.testing.assert_array_equal(model.embed("a list", prompt_name="q"), plain)
  whole = dataclasses.replace(model.task.inputs, include_prompt=True)
  task = dataclasses.replace(model.task, inputs=whole)
  pooled = dataclasses.replace(model, task=task)
  assert np.abs(pooled.embed("a list", prompt_name="q") - plain).max() > 1e-3
  np.testing.assert_array_equal(
    model.embed("a list", prompt_name="query"), model.embed("a list")
  )
  with user_error("prompt_name: unknown 'Q'; known: document, q, query"):
    model.embed("a list", prompt_name="Q")


@pytest.fixture
def scorer(tmp_path):
  """A scorer of pairs with one label, as CrossEncoder leaves it."""
  path = tmp_path / "scorer"
  bert_jax.save(folders.model("bert", "regression"), path)
  folders.change_config(path, problem_type="gone", sentence_transformers="gone")
  write_modules(path, ["Transformer"])
  config = {"model_type": "CrossEncoder", "activation_fn": None}
  write(path / "config_sentence_transformers.json", config)
  return path


def test_a_cross_encoder_scores_pairs(scorer):
  record = {"text": TEXTS[0], "pair": TEXTS[2]}
  model = bert_jax.load(scorer)
  ((score,), (logit,)) = model(record), model(record, activation="identity")
  assert score.value == pytest.approx(1 / (1 + np.exp(-logit.value)))
  config = {
    "model_type": "CrossEncoder",
    "activation_fn": "torch.nn.modules.activation.Tanh",
    "prompts": {"q": "names "},
    "default_prompt_name": "q",
  }
  write(scorer / "config_sentence_transformers.json", config)
  path = scorer / "tokenizer_config.json"
  write(path, json.loads(path.read_text()) | {"model_max_length": 16})
  model = bert_jax.load(scorer)
  assert model.task.inputs.prompt == "names "
  assert model.task.inputs.max_length == 16
  other = model(record)[0].value
  logit = model(record, activation="identity")[0].value
  assert other == pytest.approx(np.tanh(logit))
  bert_jax.save(model, scorer.parent / "again")
  folders.assert_same(bert_jax.load(scorer.parent / "again"), model)
  write(
    scorer / "config_sentence_transformers.json",
    config | {"activation_fn": "mine.Softer"},
  )
  with user_error("activation_fn: unknown 'mine.Softer'"):
    bert_jax.load(scorer)


def test_a_head_in_the_weights_is_used_for_the_named_task(tmp_path):
  given = folders.model("bert", "classification")
  bert_jax.save(given, tmp_path / "a")
  write_modules(tmp_path / "a", ["Transformer", "Pooling"])
  write_pooling(tmp_path / "a", "mean_tokens")
  assert bert_jax.load(tmp_path / "a").task.name == "embedding"

  def kernel(task, **options):
    params = bert_jax.load(tmp_path / "a", task, **options).params
    return np.asarray(params["classifier"]["kernel"])

  expected = np.asarray(given.params["classifier"]["kernel"])
  for task in ("classification", "multi_label", "regression"):
    np.testing.assert_array_equal(kernel(task), expected)
  found = kernel("classification", labels=["no", "yes"])
  np.testing.assert_array_equal(found, expected)
  with pytest.warns(UserWarning, match="has no classifier for the task tagg"):
    bert_jax.load(tmp_path / "a", "tagging")
  folders.change_config(tmp_path / "a", architectures="gone", id2label="gone")
  np.testing.assert_array_equal(kernel("tagging"), expected)

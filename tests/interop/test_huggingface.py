import dataclasses
import json
import shutil

import ml_dtypes
import numpy as np
import pytest

import bert_jax
from bert_jax.interop import huggingface_config, safetensors_files
from bert_jax.interop.families import FAMILIES
from bert_jax.settings import UserError
from bert_jax.tasks import TASKS
from bert_jax.text.wordpiece import WordPiece
from tests import small
from tests.interop import folders

CASES = [
  (name, task.name)
  for name, family in FAMILIES.items()
  for task in TASKS.values()
  if huggingface_config.has_heads(family, task)
]
# By hand, from Transformers' BertForPreTraining.
BERT_NAMES = {
  "bert.embeddings.word_embeddings.weight": (24, 16),
  "bert.embeddings.position_embeddings.weight": (32, 16),
  "bert.embeddings.token_type_embeddings.weight": (2, 16),
  "bert.embeddings.LayerNorm.weight": (16,),
  "bert.encoder.layer.1.attention.self.query.weight": (16, 16),
  "bert.encoder.layer.0.attention.output.dense.bias": (16,),
  "bert.encoder.layer.0.attention.output.LayerNorm.bias": (16,),
  "bert.encoder.layer.1.intermediate.dense.weight": (32, 16),
  "bert.encoder.layer.1.output.dense.weight": (16, 32),
  "bert.encoder.layer.1.output.LayerNorm.weight": (16,),
  "bert.pooler.dense.weight": (16, 16),
  "cls.predictions.bias": (24,),
  "cls.predictions.transform.dense.weight": (16, 16),
  "cls.predictions.transform.LayerNorm.weight": (16,),
  "cls.seq_relationship.weight": (2, 16),
}


@pytest.fixture
def bert(tmp_path):
  """A folder of BertForPreTraining."""
  model = folders.model("bert", "pretraining")
  bert_jax.save(model, tmp_path / "bert")
  return tmp_path / "bert"


@pytest.mark.parametrize(("family", "task"), CASES)
def test_every_model_comes_back_bit_for_bit(tmp_path, family, task):
  model = folders.model(family, task)
  bert_jax.save(model, tmp_path / "saved")
  again = bert_jax.load(tmp_path / "saved")
  folders.assert_same(model, again)
  config = json.loads((tmp_path / "saved" / "config.json").read_text())
  assert config["model_type"] == family
  assert config["architectures"][0].startswith(FAMILIES[family].class_name)


@pytest.mark.parametrize("task", ["embedding", "classification"])
def test_our_own_form_comes_back_bit_for_bit(tmp_path, task):
  model = folders.model("modernbert", task)
  bert_jax.save(model, tmp_path / "saved", format="bert_jax")
  folders.assert_same(model, bert_jax.load(tmp_path / "saved"))


def test_names_are_those_of_transformers(bert):
  shapes = {name: x.shape for name, x in folders.tensors(bert).items()}
  assert BERT_NAMES.items() <= shapes.items()
  assert len(shapes) == 5 + 2 * 16 + 2 + 5 + 2


def test_stacked_tensors_are_stacked_by_rows(tmp_path):
  model = folders.model("modernbert", "embedding")
  bert_jax.save(model, tmp_path / "saved")
  found = folders.tensors(tmp_path / "saved")["layers.1.attn.Wqkv.weight"]
  attention = model.params["encoder"]["layer_1"]["attention"]
  for i, name in enumerate(("query", "key", "value")):
    kernel = np.asarray(attention[name]["kernel"])
    np.testing.assert_array_equal(found[16 * i : 16 * (i + 1)], kernel.T)


def old_names(tensors):
  return {
    name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
      "LayerNorm.bias", "LayerNorm.beta"
    ): x
    for name, x in tensors.items()
  }


def copied(tensors):
  words = tensors["bert.embeddings.word_embeddings.weight"]
  return tensors | {
    "cls.predictions.decoder.weight": words,
    "cls.predictions.decoder.bias": tensors["cls.predictions.bias"],
    "bert.embeddings.position_ids": np.arange(32)[None],
  }


def only_copies(tensors):
  changed = copied(tensors)
  del changed["bert.embeddings.word_embeddings.weight"]
  return changed


@pytest.mark.parametrize("change", [old_names, copied, only_copies])
def test_what_published_files_have_besides(bert, change):
  expected = bert_jax.load(bert)
  folders.change_tensors(bert, change)
  folders.assert_same(bert_jax.load(bert), expected)


def test_an_encoder_without_its_prefix_and_with_a_pooler(bert):
  folders.change_tensors(
    bert,
    lambda tensors: {
      name.removeprefix("bert."): x
      for name, x in tensors.items()
      if name.startswith("bert.")
    },
  )
  folders.change_config(bert, architectures=["BertModel"])
  model = bert_jax.load(bert)
  assert model.task.name == "embedding"
  assert model.params.keys() == {"encoder", "pooler"}


def test_published_as_a_masked_language_model_with_both_heads(bert):
  folders.change_config(bert, architectures=["BertForMaskedLM"])
  assert bert_jax.load(bert).task.name == "pretraining"
  assert bert_jax.load(bert, task="masked_lm").params.keys() == {
    "encoder",
    "masked_lm",
  }


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_floats_become_float32(bert, dtype):
  given = {k: x.astype(dtype) for k, x in folders.tensors(bert).items()}
  safetensors_files.write_folder(bert, given)
  found = bert_jax.load(bert).params["pooler"]["dense"]["kernel"]
  assert found.dtype == np.float32
  expected = given["bert.pooler.dense.weight"].astype(np.float32).T
  np.testing.assert_array_equal(found, expected)


def without(*names):
  return lambda tensors: {k: x for k, x in tensors.items() if k not in names}


def reshaped(tensors):
  return tensors | {"bert.pooler.dense.weight": np.zeros((16, 8), np.float32)}


def integers(tensors):
  return tensors | {"bert.pooler.dense.bias": np.zeros(16, np.int32)}


def stranger(tensors):
  return tensors | {"bert.adapter.weight": np.zeros(3, np.float32)}


def untied(tensors):
  words = tensors["bert.embeddings.word_embeddings.weight"]
  return tensors | {"cls.predictions.decoder.weight": words + 1}


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (
      without("bert.encoder.layer.1.output.dense.weight"),
      "missing: bert.encoder.layer.1.output.dense.weight",
    ),
    # A part of a head is no head.
    (without("cls.predictions.bias"), "missing: cls.predictions.bias"),
    (reshaped, r"mis-shaped: bert.pooler.dense.weight is \[16, 8\], exp"),
    (integers, "bert.pooler.dense.bias is int32, expected floats"),
    (stranger, "unexpected: bert.adapter.weight"),
    (untied, "decoder.weight differs from bert.embeddings.word_emb"),
  ],
)
def test_tensors_that_do_not_fit_are_listed(bert, change, message):
  folders.change_tensors(bert, change)
  with pytest.raises(UserError, match=message):
    bert_jax.load(bert)


def test_a_missing_head_starts_fresh_and_is_said(bert):
  with pytest.warns(UserWarning, match="has no classifier for the task tagg"):
    model = bert_jax.load(bert, task="tagging")
  assert model.params["classifier"]["kernel"].shape == (16, 2)
  folders.change_tensors(
    bert,
    without(*(n for n in folders.tensors(bert) if n.startswith("cls."))),
  )
  with pytest.warns(UserWarning, match="has no masked_lm, next_sentence for"):
    bert_jax.load(bert)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"model_type": "gpt2"}, "model_type: unknown 'gpt2'; known: albert"),
    ({"model_type": "gone"}, "no model_type; expected one of bert"),
    ({"hidden_size": "big"}, "hidden_size: expected int, got 'big'"),
    ({"hidden_act": "relu"}, "hidden_act: unknown 'relu'; did you mean 'gelu'"),
    ({"num_hidden_layers": 999}, "999 layers, but the weights are"),
    ({"num_hidden_layers": 3}, "missing: bert.encoder.layer.2"),
    ({"vocab_size": 25}, r"is \[24, 16\], expected \[25, 16\]"),
    ({"is_decoder": True}, "is_decoder: True is not supported, only False"),
    (
      {"position_embedding_type": "relative_key"},
      "position_embedding_type: 'relative_key' is not supported",
    ),
  ],
)
def test_configs_that_are_none_of_ours(bert, changes, message):
  folders.change_config(bert, **changes)
  with pytest.raises(UserError, match=message):
    bert_jax.load(bert)


def test_labels_come_and_go(tmp_path):
  bert_jax.save(folders.model("bert", "classification"), tmp_path / "a")
  labels = {"0": "no", "1": "yes"}
  folders.change_config(tmp_path / "a", id2label=labels)
  model = bert_jax.load(tmp_path / "a")
  assert model.task.targets["label"].labels == ("no", "yes")
  bert_jax.save(model, tmp_path / "b")
  config = json.loads((tmp_path / "b" / "config.json").read_text())
  assert config["id2label"] == labels
  assert config["problem_type"] == "single_label_classification"
  for wrong in ({"0": "a", "2": "b"}, {"x": "a"}, [], {}):
    folders.change_config(tmp_path / "a", id2label=wrong)
    with pytest.raises(UserError, match="id2label: expected"):
      bert_jax.load(tmp_path / "a")


def test_a_vocabulary_larger_than_the_embedding_is_refused(bert):
  tokens = small.tokenizer().tokens
  WordPiece([*tokens, "more", "yet"]).save(bert)
  with pytest.raises(UserError, match="has 26 entries, but the word embedding"):
    bert_jax.load(bert)


def test_without_a_vocabulary_there_are_weights_and_no_answers(bert):
  for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
    (bert / name).unlink()
  model = bert_jax.load(bert)
  assert model.tokenizer is None
  with pytest.raises(UserError, match="came without a vocabulary"):
    model("a [MASK]")


def test_only_pickles_are_refused_with_advice(bert):
  (bert / "model.safetensors").rename(bert / "pytorch_model.bin")
  with pytest.raises(UserError, match="save_pretrained"):
    bert_jax.load(bert)


def test_saving_leaves_what_is_there_alone(tmp_path, bert):
  before = sorted(path.name for path in bert.iterdir())
  with pytest.raises(UserError, match="is not empty; choose a new folder"):
    bert_jax.save(folders.model("bert", "embedding"), bert)
  assert sorted(path.name for path in bert.iterdir()) == before
  with pytest.raises(UserError, match="format: unknown 'onnx'"):
    bert_jax.save(bert_jax.load(bert), tmp_path / "b", format="onnx")


def test_what_transformers_lacks_is_not_saved_for_it(tmp_path):
  model = folders.model("bert", "embedding")
  task = model.task
  config = dataclasses.replace(task.config, pooler_activation="gelu")
  odd = dataclasses.replace(
    model, task=dataclasses.replace(task, config=config)
  )
  with pytest.raises(UserError, match="pooler_activation is 'gelu', which"):
    bert_jax.save(odd, tmp_path / "odd")
  assert not any(tmp_path.iterdir())


def test_pretraining_of_another_family_is_no_pretraining_of_bert(tmp_path):
  # ELECTRA's class of this name has a head for replaced tokens.
  with pytest.raises(UserError, match="electra has no head for the task pret"):
    bert_jax.save(folders.model("electra", "pretraining"), tmp_path / "a")
  given = folders.model("electra", "masked_lm")
  bert_jax.save(given, tmp_path / "b")
  with pytest.warns(UserWarning, match="has no next_sentence, pooler for"):
    found = bert_jax.load(tmp_path / "b", task="pretraining")
  np.testing.assert_array_equal(
    found.params["masked_lm"]["bias"], given.params["masked_lm"]["bias"]
  )


def test_what_is_no_model_is_said_to_be_none(tmp_path, bert):
  (tmp_path / "empty").mkdir()
  (tmp_path / "file.txt").touch()
  for name, message in {
    "empty": "expected the --workdir of a run, .*; found an empty folder",
    "nowhere": "no such file or folder; expected the --workdir",
    "file.txt": "a file; expected",
  }.items():
    with pytest.raises(UserError, match=message):
      bert_jax.load(tmp_path / name)
  with pytest.raises(UserError, match="task: unknown 'tag'; did you mean"):
    bert_jax.load(bert, task="tag")
  shutil.copy(bert / "vocab.txt", bert / "config.json")
  with pytest.raises(UserError, match=r"config\.json: damaged JSON"):
    bert_jax.load(bert)

import dataclasses
import json
import shutil

import ml_dtypes
import numpy as np
import pytest

import bert_jax
from bert_jax.interop import huggingface_config, safetensors_files
from bert_jax.interop.families import FAMILIES
from bert_jax.interop.published import open_published
from bert_jax.tasks import TASKS
from bert_jax.text.wordpiece import WordPiece
from bert_jax.training.workdir import open_model
from tests import small
from tests.errors import user_error
from tests.interop import folders

CASES = [
  (name, task.name)
  for name, family in FAMILIES.items()
  for task in TASKS.values()
  if huggingface_config.has_heads(family, task)
  # Relative positions do not go with text that is written.
  and not (task.writes and name in ("mpnet", "deberta-v2"))
]
# From Transformers' BertForPreTraining, written by hand.
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
def test_huggingface_round_trips_are_exact(tmp_path, family, task):
  model = folders.model(family, task)
  bert_jax.save(model, tmp_path / "saved")
  again = bert_jax.load(tmp_path / "saved")
  folders.assert_same(model, again)
  config = json.loads((tmp_path / "saved" / "config.json").read_text())
  assert config["model_type"] == family
  assert config["architectures"][0].startswith(FAMILIES[family].class_name)


@pytest.mark.parametrize("task", ["embedding", "classification", "multi_label"])
def test_bert_jax_round_trips_are_exact(tmp_path, task):
  model = folders.model("modernbert", task)
  bert_jax.save(model, tmp_path / "saved", format="bert_jax")
  folders.assert_same(model, bert_jax.load(tmp_path / "saved"))


@pytest.mark.parametrize("task", ["pretraining", "classification"])
def test_padded_rows_are_no_part_of_what_is_saved(tmp_path, task):
  model = folders.model("bert", task)
  bert_jax.save(model, tmp_path / "published")
  published = open_published(tmp_path / "published")
  encoder = dataclasses.replace(published.config, vocab_multiple=32)
  padded = published.task.bind(encoder, published.tokenizer)
  params, new = published.params(padded)
  words = params["encoder"]["embeddings"]["word"]["embedding"]
  assert words.shape == (32, 16)
  assert not new
  assert not np.asarray(words)[24:].any()
  trained = bert_jax.Model(padded, params)
  bert_jax.save(trained, tmp_path / "saved")
  for name in ("model.safetensors", "config.json"):
    wanted = (tmp_path / "published" / name).read_bytes()
    assert (tmp_path / "saved" / name).read_bytes() == wanted
  # With our own format, the rows are those of the config.
  bert_jax.save(trained, tmp_path / "ours", format="bert_jax")
  run = open_model(tmp_path / "ours")
  assert run.config.vocab_rows == 32
  again, _ = run.params(run.task.bind(published.config, run.tokenizer))
  folders.assert_same(model, bert_jax.Model(model.task, again))


def test_files_that_are_not_needed_do_no_harm(bert):
  wanted = bert_jax.load(bert)
  (bert / "bert_config.json").write_text('{"vocab_size": 7}')
  (bert / "README.md").write_text("---")
  (bert / "optimizer.pt").write_bytes(b"\0")
  (bert / "onnx").mkdir()
  (bert / "onnx" / "config.json").write_text("{")
  folders.assert_same(wanted, bert_jax.load(bert))


def test_tensor_names_are_those_of_transformers(bert):
  shapes = {name: x.shape for name, x in folders.tensors(bert).items()}
  assert BERT_NAMES.items() <= shapes.items()
  assert len(shapes) == 5 + 2 * 16 + 2 + 5 + 2


def test_fused_projections_are_concatenated_by_rows(tmp_path):
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
def test_old_names_and_tied_copies_are_accepted(bert, change):
  expected = bert_jax.load(bert)
  folders.change_tensors(bert, change)
  folders.assert_same(bert_jax.load(bert), expected)


def test_a_base_model_has_no_prefix_and_keeps_its_pooler(bert):
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


def test_a_masked_lm_checkpoint_with_both_heads_is_pretraining(bert):
  folders.change_config(bert, architectures=["BertForMaskedLM"])
  assert bert_jax.load(bert).task.name == "pretraining"
  assert bert_jax.load(bert, task="masked_lm").params.keys() == {
    "encoder",
    "masked_lm",
  }


def test_names_in_the_published_files_of_deberta(tmp_path):
  bert_jax.save(folders.model("deberta-v2", "masked_lm"), tmp_path)
  expected = bert_jax.load(tmp_path)
  head, theirs = "cls.predictions.", "lm_predictions.lm_head."

  def published(tensors):
    renamed = {
      name.replace(head + "transform.", theirs).replace(head, theirs): x
      for name, x in tensors.items()
    }
    extra = np.zeros((3, 16), np.float32)
    return renamed | {
      "mask_predictions.dense.weight": extra,
      "deberta.embeddings.position_embeddings.weight": extra,
    }

  folders.change_tensors(tmp_path, published)
  folders.assert_same(bert_jax.load(tmp_path), expected)
  folders.change_config(tmp_path, architectures="gone")
  assert bert_jax.load(tmp_path).task.name == "embedding"
  folders.change_config(tmp_path, pos_att_type="gone")
  with user_error("pos_att_type: None is not supported, only"):
    bert_jax.load(tmp_path)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_float_dtypes_are_cast_to_float32(bert, dtype):
  given = {k: x.astype(dtype) for k, x in folders.tensors(bert).items()}
  safetensors_files.write_folder(bert, given)
  found = bert_jax.load(bert).params["pooler"]["dense"]["kernel"]
  assert found.dtype == np.float32
  expected = given["bert.pooler.dense.weight"].astype(np.float32).T
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("said", [False, "gone"])
def test_an_untied_decoder_is_another_parameter(bert, tmp_path, said):
  def untie(tensors):
    words = tensors["bert.embeddings.word_embeddings.weight"]
    return tensors | {
      "cls.predictions.decoder.weight": words + (said == "gone")
    }

  folders.change_config(bert, tie_word_embeddings=said)
  folders.change_tensors(bert, untie)
  before = folders.tensors(bert)
  model = bert_jax.load(bert)
  np.testing.assert_array_equal(
    model.params["masked_lm"]["decoder"],
    before["cls.predictions.decoder.weight"],
  )
  bert_jax.save(model, tmp_path / "again")
  after = folders.tensors(tmp_path / "again")
  assert {k: x.tobytes() for k, x in before.items()} == {
    k: x.tobytes() for k, x in after.items()
  }
  config = json.loads((tmp_path / "again" / "config.json").read_text())
  assert config["tie_word_embeddings"] is False


def without(*names):
  return lambda tensors: {k: x for k, x in tensors.items() if k not in names}


def with_zeros(name, shape, dtype="float32"):
  return lambda tensors: tensors | {name: np.zeros(shape, dtype)}


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (
      without("bert.encoder.layer.1.output.dense.weight"),
      "missing: bert.encoder.layer.1.output.dense.weight",
    ),
    # A head is loaded whole or not at all.
    (without("cls.predictions.bias"), "missing: cls.predictions.bias"),
    (
      with_zeros("bert.pooler.dense.weight", (16, 8)),
      r"mis-shaped: bert.pooler.dense.weight is \[16, 8\], exp",
    ),
    (
      with_zeros("bert.pooler.dense.bias", 16, "int32"),
      "bert.pooler.dense.bias is int32, expected floats",
    ),
    (with_zeros("bert.adapter.weight", 3), "unexpected: bert.adapter.weight"),
  ],
)
def test_mismatched_tensors_are_listed(bert, change, message):
  folders.change_tensors(bert, change)
  with user_error(message):
    bert_jax.load(bert)


def test_unexpected_tensors_are_left_out_on_request(bert):
  expected = bert_jax.load(bert)
  folders.change_tensors(bert, with_zeros("bert.adapter.weight", 3))
  with user_error(r"adapter.weight \(ignore_unexpected leaves them out\)"):
    bert_jax.load(bert)
  with pytest.warns(UserWarning, match="ignored bert.adapter.weight"):
    folders.assert_same(bert_jax.load(bert, ignore_unexpected=True), expected)
  folders.change_tensors(bert, without("cls.predictions.bias"))
  with user_error("this model; missing: cls.predictions.bias$"):
    bert_jax.load(bert, ignore_unexpected=True)


def test_a_missing_head_is_newly_initialized_with_a_warning(bert):
  with pytest.warns(UserWarning, match="has no classifier for the task tagg"):
    model = bert_jax.load(bert, task="tagging")
  assert model.params["classifier"]["kernel"].shape == (16, 2)
  folders.change_tensors(
    bert, without(*(n for n in folders.tensors(bert) if n.startswith("cls.")))
  )
  with pytest.warns(UserWarning, match="has no masked_lm, next_sentence for"):
    bert_jax.load(bert)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"model_type": "gpt2"}, "model_type: unknown 'gpt2'; known: albert"),
    ({"model_type": "gone"}, "no model_type; expected one of bert"),
    ({"hidden_size": "big"}, "hidden_size: expected int, got 'big'"),
    ({"hidden_act": "rely"}, "hidden_act: unknown 'rely'; did you mean 'relu'"),
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
def test_unsupported_configs_are_refused(bert, changes, message):
  folders.change_config(bert, **changes)
  with user_error(message):
    bert_jax.load(bert)


def test_labels_survive_a_round_trip(tmp_path):
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
    with user_error("id2label: expected"):
      bert_jax.load(tmp_path / "a")


def test_a_vocabulary_larger_than_the_embedding_is_refused(bert):
  tokens = small.tokenizer().tokens
  WordPiece([*tokens, "more", "yet"]).save(bert)
  with user_error("has 26 entries, but the word embedding"):
    bert_jax.load(bert)


def test_without_a_vocabulary_texts_are_refused(bert):
  for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
    (bert / name).unlink()
  model = bert_jax.load(bert)
  assert model.tokenizer is None
  with user_error("came without a vocabulary"):
    model("a [MASK]")


def test_saving_never_overwrites(tmp_path, bert):
  before = sorted(path.name for path in bert.iterdir())
  with user_error("is not empty; choose a new folder"):
    bert_jax.save(folders.model("bert", "embedding"), bert)
  assert sorted(path.name for path in bert.iterdir()) == before
  with user_error("format: unknown 'onnx'"):
    bert_jax.save(bert_jax.load(bert), tmp_path / "b", format="onnx")


def test_options_that_transformers_lacks_are_not_saved(tmp_path):
  model = folders.model("bert", "embedding")
  task = model.task
  config = dataclasses.replace(task.config, pooler_activation="gelu")
  odd = dataclasses.replace(
    model, task=dataclasses.replace(task, config=config)
  )
  with user_error("pooler_activation is 'gelu', which"):
    bert_jax.save(odd, tmp_path / "odd")
  assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("family", "task", "changes", "fields"),
  [
    (
      "mpnet",
      "masked_lm",
      {"hidden_act": "relu"},
      {"activation": "relu", "head_activation": "gelu"},
    ),
    (
      "electra",
      "multiple_choice",
      {"summary_use_proj": False, "summary_type": "mean"},
      {"pooler_projection": False, "pooling": "mean"},
    ),
    (
      "deberta-v2",
      "classification",
      {"pooler_hidden_act": "tanh"},
      {"pooler_activation": "tanh"},
    ),
  ],
)
def test_what_a_config_says_is_read_and_saved(
  tmp_path, family, task, changes, fields
):
  bert_jax.save(folders.model(family, task), tmp_path / "a")
  folders.change_config(tmp_path / "a", **changes)
  if "summary_use_proj" in changes:
    names = (f"sequence_summary.summary.{x}" for x in ("weight", "bias"))
    folders.change_tensors(tmp_path / "a", without(*names))
  model = bert_jax.load(tmp_path / "a")
  assert dataclasses.asdict(model.config).items() >= fields.items()
  bert_jax.save(model, tmp_path / "b")
  folders.assert_same(bert_jax.load(tmp_path / "b"), model)
  config = json.loads((tmp_path / "b" / "config.json").read_text())
  assert config.items() >= changes.items()


def test_pretraining_heads_depend_on_the_family(tmp_path):
  # ELECTRA's class of this name has a head for replaced tokens.
  with user_error("electra has no head for the task pretraining.*masked_lm"):
    bert_jax.save(folders.model("electra", "pretraining"), tmp_path / "a")
  given = folders.model("electra", "masked_lm")
  bert_jax.save(given, tmp_path / "b")
  with pytest.warns(UserWarning, match="has no next_sentence, pooler for"):
    found = bert_jax.load(tmp_path / "b", task="pretraining")
  np.testing.assert_array_equal(
    found.params["masked_lm"]["bias"], given.params["masked_lm"]["bias"]
  )


def test_paths_without_a_model_are_refused(tmp_path, bert):
  (tmp_path / "empty").mkdir()
  (tmp_path / "file.txt").touch()
  for name, message in {
    "empty": "expected the --workdir of a run, .*; found an empty folder",
    "nowhere": "no such file or folder; expected the --workdir",
    "file.txt": "a file; expected",
  }.items():
    with user_error(message):
      bert_jax.load(tmp_path / name)
  with user_error("task: unknown 'tag'; did you mean"):
    bert_jax.load(bert, task="tag")
  shutil.copy(bert / "vocab.txt", bert / "config.json")
  with user_error(r"config\.json: damaged JSON"):
    bert_jax.load(bert)

import json
import zipfile

import numpy as np
import pytest

import bert_jax
from bert_jax import trees
from tests import small
from tests.errors import user_error
from tests.interop import bundle_writer, folders

# Names of google-research/bert, written by hand.
DENSE = {
  "attention/query": "attention/self/query",
  "attention/key": "attention/self/key",
  "attention/value": "attention/self/value",
  "attention/output": "attention/output/dense",
  "feed_forward/intermediate": "intermediate/dense",
  "feed_forward/output": "output/dense",
}
NORMS = {
  "attention_norm": "attention/output/LayerNorm",
  "feed_forward_norm": "output/LayerNorm",
}
WORDS = "bert/embeddings/"
HEADS = {
  "encoder/embeddings/word/embedding": WORDS + "word_embeddings",
  "encoder/embeddings/segment/embedding": WORDS + "token_type_embeddings",
  "encoder/embeddings/position/embedding": WORDS + "position_embeddings",
  "encoder/embeddings/norm/scale": "bert/embeddings/LayerNorm/gamma",
  "encoder/embeddings/norm/bias": "bert/embeddings/LayerNorm/beta",
  "pooler/dense/kernel": "bert/pooler/dense/kernel",
  "pooler/dense/bias": "bert/pooler/dense/bias",
  "masked_lm/transform/dense/kernel": "cls/predictions/transform/dense/kernel",
  "masked_lm/transform/dense/bias": "cls/predictions/transform/dense/bias",
  "masked_lm/transform/norm/scale": "cls/predictions/transform/LayerNorm/gamma",
  "masked_lm/transform/norm/bias": "cls/predictions/transform/LayerNorm/beta",
  "masked_lm/bias": "cls/predictions/output_bias",
  "next_sentence/bias": "cls/seq_relationship/output_bias",
}


def variables(params):
  """The parameters as TensorFlow variables, with the slots of Adam."""
  flat = {k: np.asarray(x) for k, x in trees.flatten(params).items()}
  found = {theirs: flat[ours] for ours, theirs in HEADS.items()}
  kernel = flat["next_sentence/kernel"]
  found["cls/seq_relationship/output_weights"] = np.ascontiguousarray(kernel.T)
  for n in range(2):
    ours, theirs = f"encoder/layer_{n}/", f"bert/encoder/layer_{n}/"
    for old, new in DENSE.items():
      for leaf in ("kernel", "bias"):
        found[f"{theirs}{new}/{leaf}"] = flat[f"{ours}{old}/{leaf}"]
    for old, new in NORMS.items():
      found[f"{theirs}{new}/gamma"] = flat[f"{ours}{old}/scale"]
      found[f"{theirs}{new}/beta"] = flat[f"{ours}{old}/bias"]
  assert len(found) == len(flat)
  adam = {
    f"{name}/adam_{moment}": np.zeros_like(value)
    for name, value in found.items()
    for moment in "mv"
  }
  return found | adam | {"global_step": np.int64(1_000_000)[None][0:1]}


CONFIG = {
  "attention_probs_dropout_prob": 0.1,
  "hidden_act": "gelu",
  "hidden_dropout_prob": 0.1,
  "hidden_size": 16,
  "initializer_range": 0.02,
  "intermediate_size": 32,
  "max_position_embeddings": 32,
  "num_attention_heads": 2,
  "num_hidden_layers": 2,
  "type_vocab_size": 2,
  "vocab_size": 24,
  # Further keys of some releases.
  "directionality": "bidi",
  "pooler_fc_size": 768,
}


@pytest.fixture
def release(tmp_path):
  folder = tmp_path / "uncased_L-2_H-16_A-2"
  folder.mkdir()
  (folder / "bert_config.json").write_text(json.dumps(CONFIG))
  (folder / "vocab.txt").write_text("\n".join(small.tokenizer().tokens) + "\n")
  params = folders.model("bert", "pretraining").params
  bundle_writer.write(folder / "bert_model.ckpt", variables(params), shards=3)
  return folder


@pytest.fixture
def scratch(tmp_path, monkeypatch):
  """The folder of temporary files."""
  folder = tmp_path / "scratch"
  folder.mkdir()
  monkeypatch.setattr("tempfile.tempdir", str(folder))
  return folder


def test_a_release_is_loaded_bit_for_bit(release):
  model = bert_jax.load(release)
  folders.assert_same(model, folders.model("bert", "pretraining"))
  assert model.tokenizer.tokens == small.tokenizer().tokens


def test_an_embedding_model_keeps_the_pooler(release):
  model = bert_jax.load(release, task="embedding")
  assert model.params.keys() == {"encoder", "pooler"}


def test_a_zip_archive_leaves_no_temporary_files(release, tmp_path, scratch):
  archive = tmp_path / "release.zip"
  with zipfile.ZipFile(archive, "w") as file:
    for path in sorted(release.iterdir()):
      file.write(path, f"{release.name}/{path.name}")
  model = bert_jax.load(archive)
  folders.assert_same(model, folders.model("bert", "pretraining"))
  assert not any(scratch.iterdir())


def test_a_malicious_zip_archive_writes_nothing(tmp_path, scratch):
  archive = tmp_path / "release.zip"
  with zipfile.ZipFile(archive, "w") as file:
    file.writestr("bert_config.json", json.dumps(CONFIG))
    file.writestr("../evil", "evil")
  with user_error("evil"):
    bert_jax.load(archive)
  assert not any(scratch.iterdir())
  assert sorted(p.name for p in tmp_path.iterdir()) == [
    "release.zip",
    "scratch",
  ]


def test_missing_variables_and_files_are_named(release):
  params = folders.model("bert", "pretraining").params
  kept = variables(params)
  del kept["bert/encoder/layer_1/output/dense/kernel"]
  kept["surprise"] = np.zeros(3, np.float32)
  bundle_writer.write(release / "bert_model.ckpt", kept)
  message = (
    "missing: bert/encoder/layer_1/output/dense/kernel; unexpected: surprise"
  )
  with user_error(message):
    bert_jax.load(release)
  (release / "bert_model.ckpt.index").unlink()
  with user_error(r"expected bert_model.ckpt.index, found"):
    bert_jax.load(release)


def test_a_checkpoint_without_heads_is_an_embedding_model(release):
  params = folders.model("bert", "pretraining").params
  kept = {
    name: value
    for name, value in variables(params).items()
    if not name.startswith("cls/")
  }
  bundle_writer.write(release / "bert_model.ckpt", kept)
  assert bert_jax.load(release).task.name == "embedding"

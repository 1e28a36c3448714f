import dataclasses
import json

import pytest

from bert_jax import settings
from bert_jax.models.config import EncoderConfig, encoder_config
from tests.errors import user_error


@pytest.mark.parametrize(
  ("section", "message"),
  [
    ({"presett": "bert_tiny"}, "presett: unknown key"),
    ({"preset": "bert_tyni"}, "preset: .*did you mean 'bert_tiny'"),
    ({"num_heads": 7}, "num_heads: 7 heads do not divide"),
    ({"hidden_size": "big"}, "hidden_size: expected int"),
    ({"num_layers": 0}, "num_layers: expected at least 1"),
    ({"activation": "rely"}, "activation: expected one of"),
    ({"dtype": "float16"}, "dtype: expected one of"),
    ({"hidden_dropout": 1.0}, "hidden_dropout: expected a rate"),
    ({"local_window": -1}, "local_window: expected at least 0"),
    ({"num_layers": 10**9}, "num_layers: expected at most 1000"),
    ({"shared_layers": True, "pre_norm": True}, "shared_layers: with pre_norm"),
    ({"rotary_base": 1e4, "hidden_size": 36}, "rotary_base: needs heads of an"),
    ({"rotary_base": 1e4, "local_window": 8}, "local_rotary_base: goes with"),
    ({"relative_buckets": 30}, "relative_buckets: expected a multiple of 4"),
    ({"disentangled": True}, "disentangled: needs relative_buckets"),
    ({"pooling": "max"}, "pooling: expected one of first, mean"),
    ({"layer_groups": 2}, "layer_groups: groups of layers need shared_layers"),
    (
      {"shared_layers": True, "layer_groups": 3, "group_layers": 5},
      "layer_groups: 3 groups of 5 layers do not fit num_layers 12",
    ),
    ({"head_dropout": 1.0}, "head_dropout: expected a rate in"),
    ({"head_dropout": -0.1}, "head_dropout: expected a rate in"),
    ({"head_dropout": "0.1"}, "head_dropout: expected float"),
    ({"layer_dropouts": [0.1] * 11}, "layer_dropouts: 11 rates for 12 layers"),
    ({"layer_dropouts": [0.1] * 11 + [1]}, "layer_dropouts: expected rates in"),
    ({"layer_dropouts": 0.1}, "layer_dropouts: expected a list"),
    (
      {"layer_dropouts": [0.1] * 12, "shared_layers": True},
      "shared_layers: with pre_norm, local_window, layer_dropouts, layer_heads",
    ),
    ({"attention": "flash"}, "attention: expected one of auto"),
    ({"attention": "splash"}, ".*attention_dropout_broadcast to queries"),
    (
      {"attention": "cudnn", "attention_dropout": 0.0},
      "attention: cudnn needs the dtype bfloat16",
    ),
    (
      {"attention_dropout_broadcast": "keys"},
      "attention_dropout_broadcast: expected one of none",
    ),
  ],
)
def test_a_wrong_value_names_its_key(section, message):
  with user_error(f"config.model.{message}"):
    encoder_config(section)


def test_rates_come_back_from_json():
  config = EncoderConfig(
    num_layers=2, head_dropout=0.0, layer_dropouts=(0.1, 0.2)
  )
  entry = json.loads(json.dumps(dataclasses.asdict(config)))
  assert settings.from_dict(EncoderConfig, entry) == config

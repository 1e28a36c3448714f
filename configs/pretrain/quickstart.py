"""A small BERT on the documentation of the installed packages."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  config = ConfigDict()
  config.steps = 300
  config.batch_size = 64
  config.prng = "rbg"
  config.corpus = {
    "source": "installed_docs",
    "sentences": "prose",
    "vocab_size": 8192,
  }
  config.model = {
    "num_layers": 4,
    "hidden_size": 192,
    "num_heads": 3,
    "intermediate_size": 768,
    "max_positions": 128,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
  }
  config.data = {
    "corpus": "corpora/quickstart",
    "length": 64,
    "max_predictions": 10,
  }
  config.optimizer = {
    "name": "adamw",
    "learning_rate": 1e-3,
    "schedule": {"warmup_steps": 30},
  }
  config.evaluation = {"every": 100, "examples": 1024}
  config.checkpoint = {"every": 100}
  config.logging = {"every": 20}
  return config

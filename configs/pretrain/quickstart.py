"""A small BERT on the documentation of the installed packages.

For a first look, and to see that an installation works. Cost: 1.1 M tokens,
a few minutes on two cores. Expect: masked-LM accuracy of at least twice the
unigram baseline, next-sentence accuracy above 65 %.

What gets a small model off the unigram plateau soon: initial values fit for
its width (BERT's 0.02 is for 768), a rate that is not too high, two wide
layers rather than four narrow ones. Nothing is seen twice, so no dropout.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  config = ConfigDict()
  config.steps = 600
  config.batch_size = 32
  config.corpus = {
    "source": "installed_docs",
    "vocab_size": 8192,
    "shards": 8,
  }
  config.model = {
    "num_layers": 2,
    "hidden_size": 256,
    "num_heads": 4,
    "intermediate_size": 1024,
    "max_positions": 128,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "initializer_range": 0.05,
  }
  config.data = {
    "corpus": "corpora/quickstart",
    "length": 64,
    "max_predictions": 10,
  }
  config.optimizer = {
    "name": "adamw",
    "learning_rate": 1e-3,
    "b2": 0.98,
    "schedule": {"warmup_steps": 30},
  }
  config.evaluation = {"every": 100, "examples": 1024}
  config.checkpoint = {"every": 100}
  config.logging = {"every": 20}
  return config

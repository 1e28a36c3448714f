"""A small BERT on the documentation of the installed packages.

A first look, and a test of the installation.

Cost: 1,500 updates of 32 x 64 positions, about five minutes on two cores.

Result: masked-LM accuracy 0.165, where the unigram baseline has 0.058, and
next-sentence accuracy 0.669 (0.714 from other initial values), where the
majority baseline has 0.586. Expect at least twice the unigram baseline, and at
least 0.65.

A small model leaves the unigram plateau soon with initial values that suit its
width, a moderate learning rate, and two cheap layers rather than four, for many
updates. Sentence pairs are learned late, after about 600 updates; hence a
schedule that stays high for long.
"""

from ml_collections import ConfigDict

from .. import common


def get_config() -> ConfigDict:
  config = common.small_pretraining("corpora/quickstart")
  config.steps = 1800
  config.corpus = {
    "source": "installed_docs",
    "vocab_size": 8192,
    "shards": 8,
  }
  config.model = common.small_encoder()
  config.evaluation = {"every": 300, "examples": 2048}
  config.checkpoint = {"every": 600}
  config.logging = {"every": 50}
  return config

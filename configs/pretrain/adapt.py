"""Continued masked-LM pretraining of a published model on your own text.

Domain adaptation (Gururangan et al. 2020, arXiv:2004.10964). Give
`--config.init=MODEL` to both commands and `--config.corpus.files=FILES` to
`bert-jax prepare`: it uses the vocabulary of the model, and training starts
from its encoder and masked-LM head. For more text raise `steps`, not the
learning rate.

Cost: 300 updates of 16 x 64 positions, some minutes on two cores for MiniLM (6
layers of width 384).

Result: the evaluation loss, which is measured before the first update too,
falls. A model without a masked-LM head, such as a sentence embedding model,
gets a newly initialized one and starts at a loss of about ln(vocabulary size).
"""

from ml_collections import ConfigDict

from .. import common


def get_config() -> ConfigDict:
  config = common.small_pretraining("corpora/adapt")
  config.task = "masked_lm"
  config.steps = 300
  config.batch_size = 16
  config.corpus = {
    "source": "text_files",
    "files": "text/*.txt",
    "shards": 4,
  }
  config.optimizer.learning_rate = 5e-4
  config.optimizer.weight_decay = 0.01
  config.optimizer.schedule = {"name": "linear", "warmup_steps": 30}
  config.evaluation = {"every": 100, "examples": 512}
  config.checkpoint = {"every": 100}
  config.logging = {"every": 20}
  return config

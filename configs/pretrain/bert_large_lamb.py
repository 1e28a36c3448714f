"""BERT-large with LAMB, phase one of two (length 128).

Reproduces: the numbers of NVIDIA's DeepLearningExamples and of MLPerf's LAMB
(norms and biases out of decay and trust ratio). Cost: 7,038 updates of 65,536
rows. Phase two (length 512, 1,563 updates of 32,768 rows, rate 4e-3, warm-up
0.128) starts from its last checkpoint. Expect from NVIDIA's release: a final
loss near 1.27 after both phases, and 90.7 F1 on SQuAD 1.1.
"""

from ml_collections import ConfigDict

from configs.pretrain import bert_base


def get_config() -> ConfigDict:
  config = bert_base.get_config()
  config.steps = 7_038
  config.batch_size = 65_536
  # Micro-batches of 1,024 rows over all devices; fewer where there are more.
  config.accumulation = 64
  config.model = {
    "preset": "bert_large",
    "dtype": "bfloat16",
    # NVIDIA pads the vocabulary of 30,522 to a multiple of 8.
    "vocab_size": 30528,
  }
  config.optimizer = {
    "name": "lamb",
    "learning_rate": 6e-3,
    "schedule": {
      "name": "polynomial",
      "power": 0.5,
      "warmup_fraction": 0.2843,
    },
  }
  config.evaluation = {"every": 200, "examples": 10_000, "batch_size": 1024}
  config.checkpoint = {"every": 200}
  config.logging = {"every": 10}
  return config

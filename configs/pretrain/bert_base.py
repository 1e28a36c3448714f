"""BERT-base as in the paper, phase one (length 128, 90 % of the steps).

Reproduces: Devlin et al. 2018 (arXiv:1810.04805) with google-research/bert's
optimizer. The paper's second phase takes the last 10 % of the steps at length
512. Cost: 256 x 128 positions an update, 900,000 updates. Expect from the
paper's release: 88.4 F1 on SQuAD 1.1 after fine-tuning (after both phases).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  config = ConfigDict()
  config.steps = 900_000
  config.batch_size = 256
  config.prng = "rbg"
  config.workers = 4
  # Wikipedia, as TFDS has it; BooksCorpus is not public any more.
  config.corpus = {
    "source": "tfds",
    "dataset": "wikipedia/20230601.en",
    "sentences": "prose",
    "vocab_size": 30522,
    "held_out": 0.001,
    "shards": 256,
  }
  config.model = {"preset": "bert_base", "dtype": "bfloat16"}
  config.data = {
    "corpus": "corpora/wikipedia",
    "length": 128,
    "max_predictions": 20,
  }
  config.optimizer = {
    "name": "bert_adam",
    "learning_rate": 1e-4,
    "schedule": {
      "name": "linear",
      "warmup_steps": 10_000,
      "decay_steps": 1_000_000,
    },
  }
  config.evaluation = {"every": 10_000, "examples": 10_000}
  config.checkpoint = {"every": 5_000}
  config.logging = {"every": 100}
  return config

"""A small encoder from scratch, on a few megabytes of one's own text.

For a language or a field that no published vocabulary suits: give the text
to `launch.prepare` (`--config.corpus.files=FILES`), fine-tune the run after.
Masked words alone; reviews, messages and other short texts have no next
sentence to predict. A text without spaces, such as Chinese, is cut to single
characters by the vocabulary's rules.

Cost: 2,000 updates of 32 x 64 positions, some minutes on two cores. Expect
the masked-LM accuracy to leave the unigram baseline within some hundred
updates; see the README for a run on Chinese hotel reviews.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  config = ConfigDict()
  config.task = "masked_lm"
  config.steps = 2000
  config.batch_size = 32
  config.corpus = {
    "source": "text_files",
    "files": ("text/*.txt",),
    "documents": "line",
    "sentences": "line",
    "vocab_size": 8192,
    "shards": 4,
  }
  config.model = {
    "num_layers": 2,
    "hidden_size": 192,
    "num_heads": 3,
    "intermediate_size": 384,
    "max_positions": 128,
    "initializer_range": 0.06,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
  }
  config.data = {
    "corpus": "corpora/small",
    "max_length": 64,
    "max_predictions": 10,
  }
  config.optimizer = {
    "name": "adamw",
    "learning_rate": 1e-3,
    "b2": 0.98,
    "schedule": {"name": "polynomial", "power": 0.5, "warmup_steps": 50},
  }
  config.evaluation = {"every": 500, "examples": 512}
  config.checkpoint = {"every": 500}
  config.logging = {"every": 100}
  return config

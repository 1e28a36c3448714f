"""Going on with a published model's masked-LM pretraining, on one's own text.

Domain adaptation (Gururangan et al. 2020, arXiv:2004.10964). Give the model
as `--config.init=WHERE` to both commands, and the text to the first: prepare
takes the model's vocabulary, and training its encoder and masked-LM head.

Cost: 300 updates of 16 x 64 positions; for MiniLM (6 layers of width 384)
some minutes on two cores. Expect the held-out loss, which is measured before
the first update too, to fall; see the README for a run. A model without a
masked-LM head, such as MiniLM for sentences, begins with a fresh one and
hence from about ln(vocabulary). Its encoder is kept near to where it was by
a short run; for more text raise `steps`, not the rate.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  config = ConfigDict()
  config.task = "masked_lm"
  config.steps = 300
  config.batch_size = 16
  config.corpus = {
    "source": "text_files",
    "files": ("text/*.txt",),
    "shards": 4,
  }
  config.data = {
    "corpus": "corpora/adapt",
    "max_length": 64,
    "max_predictions": 10,
  }
  config.model = ConfigDict()
  config.finetuning = ConfigDict()
  config.optimizer = {
    "name": "adamw",
    "learning_rate": 5e-4,
    "b2": 0.98,
    "weight_decay": 0.01,
    "schedule": {"name": "linear", "warmup_steps": 30},
  }
  config.evaluation = {"every": 100, "examples": 512}
  config.checkpoint = {"every": 100}
  config.logging = {"every": 20}
  return config

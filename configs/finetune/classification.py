"""One label for a text or a pair: sentiment, topics, NLI, paraphrase.

Give `--config.init=WHERE`, `--config.data.train=FILE` and
`--config.data.eval=FILE`: TSV, CSV or JSON lines with a text and a label, or
with `--config.data.format=tfds` a TFDS set. Columns bear the names of the
fields, or `--config.data.columns.text=NAME_OR_NUMBER` says which they are.

Cost: for MiniLM (6 layers of width 384) and SST-2's 6,919 sentences about five
minutes an epoch on two cores. Seen with `--config.model.pooling=mean`, which is
how MiniLM was trained: dev accuracy 0.882 (three seeds, spread 0.001). The rate
is one for small encoders; a BERT-base is tuned with 2e-5 to 5e-5 (Devlin et al.
2019, section A.3).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  config = ConfigDict()
  config.task = "classification"
  config.epochs = 3.0
  config.batch_size = 32
  config.data = {
    "max_length": 128,
    "columns": ConfigDict(),
    "augmentation": ConfigDict(),
  }
  config.model = ConfigDict()
  config.finetuning = ConfigDict()
  config.optimizer = {
    "name": "adamw",
    "learning_rate": 1e-4,
    "weight_decay": 0.01,
    "schedule": {"name": "linear", "warmup_fraction": 0.1},
  }
  config.evaluation = {"every": 0, "examples": 0, "metric": "accuracy"}
  config.checkpoint = {"every": 0, "keep": 1}
  config.logging = {"every": 25}
  return config

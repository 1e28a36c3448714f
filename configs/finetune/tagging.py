"""A label for each word: named entities, parts of speech.

Give `--config.init=WHERE`, `--config.data.train=FILE` and
`--config.data.eval=FILE`: CoNLL files (the first column is the word and the
last one the tag, or `--config.data.columns.tags=NUMBER`), or JSON lines with
`words` and `tags`. Entities may be tagged in any of IOB1, IOB2, IOBES and
BILOU. For tags that make no entities, such as parts of speech, choose the best
checkpoint with `--config.evaluation.metric=accuracy`.

Cost: for MiniLM (6 layers of width 384) and WNUT-17's 3,394 sentences about
three minutes an epoch on two cores. Seen on its dev set: entity F1 0.575 (three
seeds, spread 0.006). The rate is one for small encoders; a BERT-base is tuned
with 2e-5 to 5e-5 (Devlin et al. 2019, section A.3).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  config = ConfigDict()
  config.task = "tagging"
  config.epochs = 4.0
  config.batch_size = 16
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
  config.evaluation = {"every": 0, "examples": 0, "metric": "f1"}
  config.checkpoint = {"every": 0, "keep": 1}
  config.logging = {"every": 25}
  return config

"""Several tasks on one encoder (MT-DNN: Liu et al. 2019, arXiv:1901.11504).

Give `--config.init=WHERE` and, for each part, its files:
`--config.data.tasks.sentiment.train=FILE`, `...sentiment.eval=FILE` and the
same for `entities`. Parts are what `config.data.tasks` holds: any name, its
`task` and that task's data. `temperature` 1 samples them by their size, 5
almost evenly. The measure `mean` is that of the first score of each part.

Predict with one of the parts: `launch.predict --model RUN --task=sentiment`.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  config = ConfigDict()
  config.task = "mixed"
  config.epochs = 3.0
  config.batch_size = 32
  config.data = {
    "temperature": 2.0,
    "tasks": {
      "sentiment": {"task": "classification", "columns": {}},
      "entities": {"task": "tagging", "columns": {}},
    },
  }
  config.model = ConfigDict()
  config.finetuning = ConfigDict()
  config.optimizer = {
    "name": "adamw",
    "learning_rate": 1e-4,
    "weight_decay": 0.01,
    "schedule": {"name": "linear", "warmup_fraction": 0.1},
  }
  config.evaluation = {"every": 0, "examples": 0, "metric": "mean"}
  config.checkpoint = {"every": 0, "keep": 1}
  config.logging = {"every": 25}
  return config

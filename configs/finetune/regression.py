"""A number for a text or a pair, or several: similarity, ratings, grades.

Give `--config.init=WHERE`, `--config.data.train=FILE` and
`--config.data.eval=FILE`: TSV, CSV or JSON lines with a text, maybe a pair,
and a number as label, such as STS-B's; or JSON lines with a list `values` of
several numbers, which `--config.data.labels=('NAME','NAME')` may name. Columns
bear the names of the fields, or `--config.data.columns.text=NAME_OR_NUMBER`
says which they are.

The model learns numbers of mean 0 and deviation 1, whatever their unit, and
answers in the unit of the data. The baseline always gives the training mean.

Cost: as that of configs/finetune/classification.py. The rate is one for small
encoders; a BERT-base is tuned with 2e-5 to 5e-5 (Devlin et al. 2019, section
A.3).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  config = ConfigDict()
  config.task = "regression"
  config.epochs = 4.0
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
  config.evaluation = {"every": 0, "examples": 0, "metric": "spearman"}
  config.checkpoint = {"every": 0, "keep": 1}
  config.logging = {"every": 25}
  return config

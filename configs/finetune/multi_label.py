"""Any number of labels for a text or a pair: topics, emotions, toxicity.

Give `--config.init=WHERE`, `--config.data.train=FILE` and
`--config.data.eval=FILE`: JSON lines with a text and a list `labels`, or TSV
and CSV with the labels in one column, `sport|politics` (config.data.separator;
an empty cell is none). Columns bear the names of the fields, or
`--config.data.columns.text=NAME_OR_NUMBER` says which they are.

The threshold of each label is tuned for its F1 on the evaluation data and kept
with the model; `micro_f1_untuned` is what 0.5 for all gives. The baseline of
micro F1 always gives the commonest labels.

Cost: as that of configs/finetune/classification.py. The rate is one for small
encoders; a BERT-base is tuned with 2e-5 to 5e-5 (Devlin et al. 2019, section
A.3).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  config = ConfigDict()
  config.task = "multi_label"
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
  config.evaluation = {"every": 0, "examples": 0, "metric": "micro_f1"}
  config.checkpoint = {"every": 0, "keep": 1}
  config.logging = {"every": 25}
  return config

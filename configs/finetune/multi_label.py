"""Any number of labels for a text or a pair: topics, emotions, toxicity.

Give `--config.init=MODEL`, `--config.data.train=FILE` and
`--config.data.eval=FILE`: JSON lines with a text and a list `labels`, or TSV
and CSV with the labels in one column, `sport|politics`
(`config.data.separator`; an empty cell has no labels). Columns are named after
the fields; `--config.data.columns.text=NAME_OR_NUMBER` selects another one.

The threshold of each label is tuned for its F1 on the evaluation data and saved
with the model; `micro_f1_untuned` uses 0.5 for all labels. The baseline of
micro F1 always predicts the most frequent labels.

Cost: that of configs/finetune/classification.py.
"""

from ml_collections import ConfigDict

from .. import common


def get_config() -> ConfigDict:
  config = common.finetuning("multi_label", metric="micro_f1")
  config.epochs = 4.0
  return config

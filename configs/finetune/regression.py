"""One or several numbers for a text or a pair: similarity, ratings, grades.

Give `--config.init=MODEL`, `--config.data.train=FILE` and
`--config.data.eval=FILE`: TSV, CSV or JSON lines with a text, optionally a
pair, and a number as `label`, such as those of STS-B; or JSON lines with a list
`values` of several numbers, which
`--config.data.targets.values.labels=('NAME','NAME')` names. Columns are named
after the fields; `--config.data.columns.text=NAME_OR_NUMBER` selects another
one.

Training standardizes the values; answers are in the unit of the data. The
baseline always predicts the training mean.

Cost: that of configs/finetune/classification.py.
"""

from ml_collections import ConfigDict

from .. import common


def get_config() -> ConfigDict:
  config = common.finetuning("regression", metric="spearman")
  config.epochs = 4.0
  return config

"""Intents and slots of utterances, jointly (Chen et al. 2019).

Give `--config.init=MODEL`, `--config.data.train=FOLDER` and
`--config.data.eval=FOLDER`: folders with the parallel files `seq.in` (words),
`seq.out` (their tags) and `label` (the intent), the format of SNIPS and ATIS;
or JSON lines with `words`, `tags` and `label`.

Cost: about four minutes per epoch on two cores, for MiniLM (6 layers of width
384) and the 13,084 sentences of SNIPS.

Result: intent accuracy 0.987 and slot F1 0.925 on the dev set of SNIPS (three
seeds, spread 0.001).
"""

from ml_collections import ConfigDict

from .. import common


def get_config() -> ConfigDict:
  config = common.finetuning("dialogue", metric="sentence_accuracy")
  config.data.max_length = 64
  return config

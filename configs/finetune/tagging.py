"""A label for each word: named entities, parts of speech.

Give `--config.init=MODEL`, `--config.data.train=FILE` and
`--config.data.eval=FILE`: CoNLL files (the first column is the word and the
last one the tag; `--config.data.columns.tags=NUMBER` selects another), or JSON
lines with `words` and `tags`. Entity tags may be IOB1, IOB2, IOBES or BILOU.
For tags that are not entities, such as parts of speech, choose the best
checkpoint by `--config.evaluation.metric=accuracy`.

Cost: about three minutes per epoch on two cores, for MiniLM (6 layers of width
384) and the 3,394 sentences of WNUT-17.

Result: entity F1 0.575 on the dev set of WNUT-17 (three seeds, spread 0.006).
"""

from ml_collections import ConfigDict

from .. import common


def get_config() -> ConfigDict:
  config = common.finetuning("tagging", metric="f1")
  config.epochs = 4.0
  config.batch_size = 16
  return config

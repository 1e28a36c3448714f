"""Embeddings whose cosine says how similar two texts are, as in STS-B.

Give `--config.init=MODEL`, `--config.data.train=FILE` and
`--config.data.eval=FILE`: TSV, CSV or JSON lines with `text`, `pair` and the
number `label`. For STS-B from TFDS:
`--config.data.dataset=glue/stsb --config.data.columns.text=sentence1
--config.data.columns.pair=sentence2 --config.data.train=train
--config.data.eval=validation`. The smallest label becomes a cosine of 0 and the
greatest a cosine of 1, unless
`--config.data.targets.similarity.label_range=0,5` names them.

Reproduces: the settings of Reimers and Gurevych (2019, arXiv:1908.10084),
batches of 16 and four epochs, with a learning rate for small encoders; theirs
is 2e-5 for a BERT-base.

Cost: some minutes per epoch on two cores, for MiniLM and the 5,749 pairs of
STS-B.
"""

from ml_collections import ConfigDict

from .. import common


def get_config() -> ConfigDict:
  config = common.finetuning("embedding", "spearman", learning_rate=5e-5)
  config.epochs = 4.0
  config.batch_size = 16
  config.data.targets = {"similarity": {"objective": "similarity"}}
  return config

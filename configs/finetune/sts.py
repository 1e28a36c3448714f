"""Vectors whose cosine says how much two texts are alike, as in STS-B.

Give `--config.init=WHERE`, `--config.data.train=FILE` and
`--config.data.eval=FILE`: TSV, CSV or JSON lines with `text`, `pair` and the
number `label`. STS-B from TFDS is
`--config.data.dataset=glue/stsb --config.data.columns.text=sentence1
--config.data.columns.pair=sentence2 --config.data.train=train
--config.data.eval=validation`. The least label stands for a cosine of 0 and
the greatest for 1; `--config.data.label_range=0,5` says which they are.

The settings are those of Reimers and Gurevych (2019, arXiv:1908.10084): batches
of 16, 2e-5 for a BERT-base, four epochs; the rate here is one for small
encoders. Cost: for MiniLM and the 5,749 pairs of STS-B some minutes an epoch
on two cores.
"""

from ml_collections import ConfigDict

from configs.finetune import embedding


def get_config() -> ConfigDict:
  config = embedding.get_config()
  config.epochs = 4.0
  config.batch_size = 16
  config.data.objective = "similarity"
  config.data.label_range = ()
  config.evaluation.metric = "spearman"
  return config

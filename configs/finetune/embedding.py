"""Vectors for search: texts that belong together lie together.

Give `--config.init=WHERE`, `--config.data.train=FILE` and
`--config.data.eval=FILE`: TSV, CSV or JSON lines with `text` and `pair`, as
question and answer, and maybe `negative`, a text that seems to belong and does
not. Every other pair of a batch is a negative too (van den Oord et al. 2018,
Henderson et al. 2017), so large batches teach more. The measures are those of
a search for each held-out text among all held-out pairs.

A model of sentence-transformers keeps its pooling and prompt; of others the
mean over tokens is taken. `bert_jax.load(WORKDIR).embed(texts)` gives vectors,
and `launch.convert` writes a folder that sentence-transformers opens.

Cost: for MiniLM (6 layers of width 384) about that of classifying twice as
many texts. The rate is one for small encoders; a BERT-base is tuned with 2e-5.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  config = ConfigDict()
  config.task = "embedding"
  config.epochs = 1.0
  config.batch_size = 64
  config.data = {
    "objective": "contrastive",
    "max_length": 128,
    "scale": 20.0,
    "symmetric": False,
    "columns": ConfigDict(),
    "augmentation": ConfigDict(),
  }
  config.model = ConfigDict()
  config.finetuning = ConfigDict()
  config.optimizer = {
    "name": "adamw",
    "learning_rate": 5e-5,
    "weight_decay": 0.01,
    "schedule": {"name": "linear", "warmup_fraction": 0.1},
  }
  config.evaluation = {"every": 0, "examples": 0, "metric": "mrr_at_10"}
  config.checkpoint = {"every": 0, "keep": 1}
  config.logging = {"every": 25}
  return config

"""Text embeddings for search, trained on pairs that belong together.

Give `--config.init=MODEL`, `--config.data.train=FILE` and
`--config.data.eval=FILE`: TSV, CSV or JSON lines with `text` and `pair`, such
as question and answer, and optionally `negative`, a hard negative. The other
pairs of a batch are negatives too (van den Oord et al. 2018, Henderson et al.
2017), so larger batches teach more. Evaluation searches for the pair of each
held-out text among all held-out pairs.

A sentence-transformers model keeps its pooling and prompt; other models use
the mean over tokens. `bert_jax.load(WORKDIR).embed(texts)` returns vectors, and
`bert-jax convert` writes a folder that sentence-transformers opens.

Cost: that of classifying twice as many texts; for MiniLM (6 layers of width
384), see configs/finetune/classification.py.
"""

from ml_collections import ConfigDict

from .. import common


def get_config() -> ConfigDict:
  config = common.finetuning("embedding", "mrr_at_10", learning_rate=5e-5)
  config.epochs = 1.0
  config.batch_size = 64
  return config

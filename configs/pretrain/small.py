"""A small encoder from scratch, on a few megabytes of your own text.

For a language or a domain that no published vocabulary suits: give
`--config.corpus.files=FILES` to `bert-jax prepare`, train, then fine-tune the
run. Masked LM only, since reviews, messages and other short texts have no next
sentence. In text without spaces, such as Chinese, each character is a word.

A ModernBERT of two layers, which Transformers opens after `bert-jax convert`.

Cost: 2,000 updates of 32 x 64 positions, some minutes on two cores.

Result: the masked-LM accuracy leaves the unigram baseline within some hundred
updates.
"""

from ml_collections import ConfigDict

from .. import common


def get_config() -> ConfigDict:
  config = common.small_pretraining("corpora/small")
  config.task = "masked_lm"
  config.steps = 2000
  config.corpus = {
    "source": "text_files",
    "files": "text/*.txt",
    "documents": "line",
    "sentences": "line",
    "vocab_size": 8192,
    "shards": 4,
  }
  config.model = common.small_encoder()
  config.evaluation = {"every": 500, "examples": 512}
  config.checkpoint = {"every": 500}
  return config

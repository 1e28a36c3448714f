r"""Goes on with a text, or with a line of code.

    bert-jax pairs --kind continuation --output pairs/continuation
    bert-jax train --config configs/finetune/continuation.py \
      --config.init=runs/quickstart --workdir runs/continuation
    bert-jax predict --model runs/continuation --stream

The text is documentation; any encoder can be `config.init`. For code, from
initial values, with a vocabulary that keeps spaces and case:

    bert-jax pairs --kind code_completion --output pairs/code_completion
    bert-jax prepare --config configs/finetune/continuation.py:code \
      --output corpora/code_completion
    bert-jax train --config configs/finetune/continuation.py:code \
      --workdir runs/code_completion

A line is completed from one of its tokens on, as is a text from its middle; of
a long source the end is kept.

Cost: for text some minutes an epoch on two cores with the encoder of the
quickstart; for code at most half an hour.

Result: not yet measured.
"""

from ml_collections import ConfigDict

from .. import common

ARGUMENTS = ("text", "code")


def get_config(name: str = "text") -> ConfigDict:
  if name not in ARGUMENTS:
    raise ValueError(f"unknown {name!r}; known: {', '.join(ARGUMENTS)}")
  folder = {"text": "continuation", "code": "code_completion"}[name]
  train = f"pairs/{folder}/train.jsonl"
  if name == "code":
    config = common.writer(f"corpora/{folder}", max_target_length=40)
    config.corpus = common.pairs_corpus(train, 8192)
    config.data.max_length = 256
    config.data.length_buckets = (64, 96, 128, 192)
  else:
    config = common.finetuning("generation", "perplexity", learning_rate=5e-4)
  config.data.update(train=train, eval=f"pairs/{folder}/eval.jsonl", keep="end")
  return config

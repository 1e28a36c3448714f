r"""Writes the words that a mask in a text stands for, any number of them.

    bert-jax pairs --kind infilling --output pairs/infilling
    bert-jax train --config configs/finetune/infilling.py \
      --config.init=runs/quickstart --workdir runs/infilling

A masked language model gives one token a mask; this one writes as many as fit,
after it has read both sides (Donahue et al. 2020, arXiv:2005.05339). A model
with the mask token of RoBERTa needs `bert-jax pairs --mask='<mask>' ...`. Own
pairs are JSON lines with `text`, which has the mask, and `target`.

Cost: some minutes an epoch on two cores with the encoder of the quickstart.

Result: not yet measured.
"""

from ml_collections import ConfigDict

from .. import common


def get_config() -> ConfigDict:
  config = common.finetuning("generation", "perplexity", learning_rate=5e-4)
  config.data.update(
    train="pairs/infilling/train.jsonl",
    eval="pairs/infilling/eval.jsonl",
    masks=True,
    targets={"masked_lm": {"max_target_length": 24}},
  )
  return config

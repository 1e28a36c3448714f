r"""Replies in a dialogue: DailyDialog and data sets in its format.

Give `--config.init=MODEL`, `--config.data.train=FILES` and
`--config.data.eval=FILE`: text files with a dialogue a line, whose turns end
with `__eou__`, or JSON lines with `turns`, a list of texts, and `target`. Each
turn but the first is learned, from all before it; of long dialogues the newest
turns are kept.

    python -m benchmarks.writing dialogue --train FILES --eval FILE \
      --model RUN --top_p 0.9

Replies of beam search are short and general; `bert-jax predict` with
`--do_sample --top_p=0.9` gives livelier ones.

Cost: some minutes an epoch on two cores for MiniLM (6 layers of width 384) and
the 12,000 turns of 2,000 dialogues.

Result, from the encoder of the quickstart (2.2 million parameters) with
`--config.optimizer.learning_rate=1e-3`, 2,000 dialogues and half an hour of one
core: perplexity 39.0 on the 996 test dialogues of XDailyDialog, where counts of
tokens have 362. Sampled with top_p=0.9, distinct-1 is 0.156 and distinct-2
0.589; the reply of the nearest neighbour has 0.062 and 0.296, the commonest
reply 0.000. Replies are polite and seldom to the point.
"""

from ml_collections import ConfigDict

from .. import common


def get_config() -> ConfigDict:
  config = common.finetuning("generation", "perplexity", learning_rate=3e-4)
  config.data.update(
    # Where no file for evaluation is given, whole dialogues are held out.
    eval_group="dialogue",
    max_length=160,
    targets={"masked_lm": {"label_smoothing": 0.1, "max_target_length": 48}},
  )
  return config

r"""BERT-base as published, in two phases of length 128 and 512.

    --config configs/pretrain/bert_base.py --workdir runs/base_1
    --config configs/pretrain/bert_base.py:phase2 --workdir runs/base_2 \
        --config.init=runs/base_1

Phase one is 90 % of a million updates, phase two the last 10 % on the same
linear schedule; its optimizer moments start at zero.

A row holds one example, as published. `--config.data.max_sequences=4` packs up
to 4 short examples into a row, which leaves little padding but makes an update
one of more examples: lower `batch_size` or `steps` by the same factor (compare
`packing_efficiency` in the log without packing and with it).

Reproduces: Devlin et al. 2018 (arXiv:1810.04805), with the optimizer of
google-research/bert.

Cost: a million updates of 256 rows.

Result: not run here to its end. To compare with: the published checkpoint has
F1 88.4 on SQuAD 1.1 after fine-tuning.
"""

from ml_collections import ConfigDict

from .. import common

ARGUMENTS = ("phase1", "phase2")


def get_config(phase: str = "phase1") -> ConfigDict:
  if phase not in ARGUMENTS:
    raise ValueError(f"expected {' or '.join(ARGUMENTS)}, got {phase!r}")
  first = phase == "phase1"
  config = ConfigDict()
  config.steps = 900_000 if first else 100_000
  config.batch_size = 256
  config.workers = 4
  # Without BooksCorpus, which is not public any more.
  config.corpus = {
    **common.wikipedia(eval_fraction=0.001),
    "sentences": "prose",
  }
  config.model = {"dtype": "bfloat16"}
  if first:
    config.model.preset = "bert_base"
  config.data = {
    "corpus": "corpora/wikipedia",
    "max_length": 128 if first else 512,
    "max_predictions": 20 if first else 77,
  }
  config.optimizer = {
    "name": "bert_adam",
    "learning_rate": 1e-4 if first else 1e-5,
    "schedule": {"name": "linear"},
  }
  if first:
    config.optimizer.schedule.warmup_steps = 10_000
    config.optimizer.schedule.decay_steps = 1_000_000
  config.evaluation = {"every": 10_000, "examples": 10_000}
  config.checkpoint = {"every": 5_000}
  return config

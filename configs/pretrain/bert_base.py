r"""BERT-base as in the paper, in two phases of length 128 and 512.

    --config configs/pretrain/bert_base.py --workdir runs/base_1
    --config configs/pretrain/bert_base.py:phase2 --workdir runs/base_2 \
        --config.init=runs/base_1

Phase one has 90 % of a million updates, phase two the last 10 %, on the same
line of the learning rate; it begins with moments of zero.

A row has one example, as there. `--config.data.max_sequences=4` lets up to 4
short ones share a row, which leaves hardly any padding, and makes an update one
of more examples: lower `batch_size` or `steps` by as much (compare
`packing_efficiency` in the log without packing and with it).

Reproduces: Devlin et al. 2018 (arXiv:1810.04805) with google-research/bert's
optimizer. Cost: 256 rows an update. Expect from the paper's release: 88.4 F1
on SQuAD 1.1 after fine-tuning.
"""

from ml_collections import ConfigDict

ARGUMENTS = ("phase1", "phase2")


def get_config(phase: str = "phase1") -> ConfigDict:
  if phase not in ARGUMENTS:
    raise ValueError(f"expected {' or '.join(ARGUMENTS)}, got {phase!r}")
  first = phase == "phase1"
  config = ConfigDict()
  config.steps = 900_000 if first else 100_000
  config.batch_size = 256
  config.workers = 4
  # Wikipedia, as TFDS has it; BooksCorpus is not public any more.
  config.corpus = {
    "source": "tfds",
    "dataset": "wikipedia/20230601.en",
    "sentences": "prose",
    "vocab_size": 30522,
    "eval_fraction": 0.001,
    "shards": 256,
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
  config.logging = {"every": 100}
  return config

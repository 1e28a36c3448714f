r"""BERT-large with LAMB in two phases: batches of 65,536 and of 32,768 rows.

    --config configs/pretrain/bert_large_lamb.py --workdir runs/large_1
    --config configs/pretrain/bert_large_lamb.py:phase2 \
        --config.init=runs/large_1 --workdir runs/large_2

Phase one has length 128; phase two has length 512, begins with the weights of
phase one, and with moments of zero. For rows without padding, see
`configs/pretrain/bert_base.py`.

Reproduces: the numbers of NVIDIA's DeepLearningExamples and of MLPerf's LAMB
(norms and biases out of decay and trust ratio). Cost: 7,038 and 1,563 updates.
Expect from NVIDIA's release: a final loss near 1.27 after both phases, and
90.7 F1 on SQuAD 1.1.
"""

from ml_collections import ConfigDict

from configs.pretrain import bert_base

ARGUMENTS = ("phase1", "phase2")


def get_config(phase: str = "phase1") -> ConfigDict:
  if phase not in ARGUMENTS:
    raise ValueError(f"expected {' or '.join(ARGUMENTS)}, got {phase!r}")
  first = phase == "phase1"
  config = bert_base.get_config(phase)
  config.steps = 7_038 if first else 1_563
  config.batch_size = 65_536 if first else 32_768
  # Micro-batches of 1,024 and 256 rows over all devices; fewer where there
  # are more devices.
  config.accumulation = 64 if first else 128
  if first:
    # NVIDIA pads the vocabulary of 30,522 to a multiple of 8.
    config.model.preset = "bert_large"
    config.model.vocab_size = 30528
  config.optimizer = {
    "name": "lamb",
    "learning_rate": 6e-3 if first else 4e-3,
    "schedule": {
      "name": "polynomial",
      "power": 0.5,
      "warmup_fraction": 0.2843 if first else 0.128,
    },
  }
  config.evaluation = {"every": 200, "examples": 10_000, "batch_size": 1024}
  config.checkpoint = {"every": 200 if first else 100}
  config.logging = {"every": 10}
  return config

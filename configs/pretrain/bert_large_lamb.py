r"""BERT-large with LAMB in two phases: batches of 65,536 and of 32,768 rows.

    --config configs/pretrain/bert_large_lamb.py --workdir runs/large_1
    --config configs/pretrain/bert_large_lamb.py:phase2 \
        --config.init=runs/large_1 --workdir runs/large_2

Phase one has length 128. Phase two has length 512 and starts from the
parameters of phase one, with optimizer moments of zero. For packed rows see
configs/pretrain/bert_base.py.

Reproduces: the hyperparameters of NVIDIA's DeepLearningExamples, with MLPerf's
LAMB (LayerNorm and bias are left out of weight decay and trust ratio).

Cost: 7,038 and 1,563 updates.

Result: not run here to its end. To compare with: NVIDIA reports a final loss
near 1.27 after both phases, and F1 90.7 on SQuAD 1.1.
"""

from ml_collections import ConfigDict

from . import bert_base

ARGUMENTS = ("phase1", "phase2")


def get_config(phase: str = "phase1") -> ConfigDict:
  config = bert_base.get_config(phase)
  first = phase == "phase1"
  config.steps = 7_038 if first else 1_563
  config.batch_size = 65_536 if first else 32_768
  # Micro-batches of 1,024 and 256 rows over all devices; with more devices,
  # fewer micro-batches do.
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

r"""MLPerf's BERT: from its checkpoint to a masked-LM accuracy of 0.720.

    --config configs/pretrain/mlperf.py:1536 --config.init=CHECKPOINT \
        --config.data.train='TRAIN*.tfrecord' \
        --config.data.eval='EVAL.tfrecord'

CHECKPOINT is `model.ckpt-28252` of phase one, which MLPerf provides in TF1's
format with its `bert_config.json`. Rows have length 512, 76 predictions and one
example each. 10,000 evaluation examples are measured, all of MLPerf's file, and
the run stops at the target.

Reproduces: the optimizer of submissions with a batch size of 256 or 1536, which
is the argument.

Cost: at most 13,700 or 2,254 updates. Result: not run here, for lack of data.
"""

from ml_collections import ConfigDict

# Learning rate, betas and updates by batch size.
ARGUMENTS = {
  "256": (3.5e-4, 0.9, 0.999, 13_700),
  "1536": (2e-3, 0.66, 0.996, 2_254),
}


def get_config(batch_size: str = "256") -> ConfigDict:
  if batch_size not in ARGUMENTS:
    raise ValueError(f"expected {' or '.join(ARGUMENTS)}, got {batch_size!r}")
  rate, b1, b2, steps = ARGUMENTS[batch_size]
  config = ConfigDict()
  config.steps = steps
  config.batch_size = int(batch_size)
  config.workers = 4
  config.model = {"dtype": "bfloat16"}
  config.data = {"max_length": 512, "max_predictions": 76}
  config.optimizer = {
    "name": "lamb",
    "learning_rate": rate,
    "b1": b1,
    "b2": b2,
    "schedule": {"name": "polynomial", "power": 1.0},
  }
  every = max(steps // 20, 1)
  config.evaluation = {
    "every": every,
    "examples": 10_000,
    "batch_size": 1_000,
    "metric": "mlm_accuracy",
    "target": 0.720,
  }
  config.checkpoint = {"every": every}
  config.logging = {"every": 10}
  return config

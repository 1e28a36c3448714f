"""One accelerator for a day.

Cramming (Geiping and Goldstein 2023, arXiv:2212.14034): pre-norm, gated units,
no biases, 25 % masking, no dropout, packed rows, and a learning rate that rises
until half of the time has passed and then falls to zero. The schedule follows
the clock (`config.hours`), so the run takes a day on any device; `config.steps`
is an upper bound. Unlike the paper: rotary positions, and a constant batch
size. For a short trial, `--config.hours=1`.

Evaluation masks 15 %, so that its loss compares with that of other recipes.

Cost: 24 hours of one accelerator. Result: not run here to its end.
"""

from ml_collections import ConfigDict

from . import modern_base


def get_config() -> ConfigDict:
  config = modern_base.get_config()
  config.hours = 24.0
  config.steps = 600_000
  config.accumulation = 16
  config.model.update(
    hidden_dropout=0.0,
    attention_dropout=0.0,
    local_window=0,
    local_rotary_base=0.0,
    global_every=1,
  )
  config.data.mask_rate = 0.25
  config.data.max_predictions = 32
  config.optimizer.learning_rate = 1e-3
  config.optimizer.weight_decay = 0.01
  config.optimizer.clip_norm = 0.5
  config.optimizer.schedule = {
    "name": "linear",
    "warmup_fraction": 0.5,
    "decay_from_start": False,
  }
  config.evaluation = {"every": 1000, "examples": 8192}
  config.checkpoint = {"every": 500}
  config.logging = {"every": 20}
  return config

"""One accelerator for a day: what a single GPU makes of 24 hours.

After: Cramming (Geiping and Goldstein 2023, arXiv:2212.14034): norms before
the blocks, gated units, no biases, 25 % of the words masked, no dropout, rows
with hardly any padding, a rate that rises to the middle of the time and falls
to its end. The schedule goes by the clock (`config.hours`), so the run uses the
day whatever the device; `config.steps` is only an upper bound. Other than
there: rotary positions, and batches of one size. Give `--config.hours=1` for a
first look.
"""

from ml_collections import ConfigDict

from configs.pretrain import modern_base


def get_config() -> ConfigDict:
  config = modern_base.get_config()
  config.hours = 24.0
  config.steps = 600_000
  config.batch_size = 4096
  config.accumulation = 16
  config.model.hidden_dropout = 0.0
  config.model.attention_dropout = 0.0
  config.model.local_window = 0
  config.model.local_rotary_base = 0.0
  config.model.global_every = 1
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

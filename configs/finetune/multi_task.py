"""Several tasks on one encoder (MT-DNN: Liu et al. 2019, arXiv:1901.11504).

Give `--config.init=MODEL` and the files of each task:
`--config.data.tasks.sentiment.train=FILE`, `...sentiment.eval=FILE` and the
same for `entities`. `config.data.tasks` maps names of your choice to a `task`
and the data of that task. A `temperature` of 1 samples tasks by their size, 5
almost evenly. The metric `mean` averages the first metric of each task.

Predict with one of the tasks: `bert-jax predict --model RUN --task=sentiment`.
"""

from ml_collections import ConfigDict

from .. import common


def get_config() -> ConfigDict:
  config = common.finetuning("multi_task", metric="mean")
  config.data = {
    "temperature": 2.0,
    "tasks": {
      "sentiment": {"task": "classification"},
      "entities": {"task": "tagging"},
    },
  }
  return config

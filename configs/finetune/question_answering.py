"""The part of a text that answers a question: SQuAD 1.1 and 2.0.

Give `--config.init=WHERE`, `--config.data.train=train-v2.0.json` and
`--config.data.eval=dev-v2.0.json`; or JSON lines of `question`, `context` and
`answers`, a list of {"text", "start"}, empty where there is none; or with
`--config.data.format=tfds` a TFDS set. If a training question has no answer,
the model learns to say so, and from how large a difference on is tuned on the
evaluation data.

To train on some articles of one file and evaluate on the others:

    import json
    *train, last = json.load(open("squad.json"))["data"]
    json.dump({"data": train}, open("train.json", "w"))
    json.dump({"data": [last]}, open("eval.json", "w"))

Few questions want more epochs, and a higher rate: of MiniLM and 579 questions
on four articles, all with answers, `--config.epochs=8
--config.optimizer.learning_rate=2e-4` made EM 0.325 (std 0.023) and F1 0.441
(0.011) on 124 questions on a fifth, over seeds 0, 1 and 2, each by its best
epoch. The two epochs below, over 1,160 questions of which half have no answer,
only taught it to say that there is none.

Cost: for MiniLM (6 layers of width 384) and a thousand questions some minutes
an epoch on two cores; SQuAD's 100,000 ask for an accelerator. The rate is one
for small encoders; a BERT-base is tuned with 3e-5, for which
google-research/bert reports an F1 of 88.4 on SQuAD 1.1.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  config = ConfigDict()
  config.task = "question_answering"
  config.epochs = 2.0
  config.batch_size = 16
  config.data = {
    "max_length": 384,
    "stride": 128,
    "columns": ConfigDict(),
  }
  config.model = ConfigDict()
  config.finetuning = ConfigDict()
  config.optimizer = {
    "name": "adamw",
    "learning_rate": 1e-4,
    "weight_decay": 0.01,
    "schedule": {"name": "linear", "warmup_fraction": 0.1},
  }
  config.evaluation = {"every": 0, "examples": 0, "metric": "f1"}
  config.checkpoint = {"every": 0, "keep": 1}
  config.logging = {"every": 25}
  return config

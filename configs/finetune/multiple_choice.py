r"""Which of several texts goes with a text: SWAG, RACE.

Give `--config.init=WHERE`, `--config.data.train=FILE` and
`--config.data.eval=FILE`: JSON lines with `text`, the list `choices`, `label`
(from 0, or a letter from A) and maybe `question`, which comes before each
choice (SWAG's `sent2`) or has a gap `_` for it (RACE). Where each choice has a
column of its own, this makes such lines of SWAG's CSV:

  import csv, json
  for row in csv.DictReader(open("train.csv", encoding="utf-8", newline="")):
    print(json.dumps({
      "text": row["sent1"],
      "question": row["sent2"],
      "choices": [row[f"ending{n}"] for n in range(4)],
      "label": int(row["label"]),
    }))

RACE's JSON has `article`, `questions`, `options` and `answers`: a line for each
question, with the article as its text.

Cost: each choice is a row of its own, so four choices cost what four texts
cost in classification. A BERT-base is tuned with 2e-5 (Devlin et al. 2019,
section 4.4); the rate here is one for small encoders.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  config = ConfigDict()
  config.task = "multiple_choice"
  config.epochs = 3.0
  config.batch_size = 16
  config.data = {
    "max_length": 128,
    "columns": ConfigDict(),
    "augmentation": ConfigDict(),
  }
  config.model = ConfigDict()
  config.finetuning = ConfigDict()
  config.optimizer = {
    "name": "adamw",
    "learning_rate": 5e-5,
    "weight_decay": 0.01,
    "schedule": {"name": "linear", "warmup_fraction": 0.1},
  }
  config.evaluation = {"every": 0, "examples": 0, "metric": "accuracy"}
  config.checkpoint = {"every": 0, "keep": 1}
  config.logging = {"every": 25}
  return config

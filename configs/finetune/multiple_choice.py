r"""The one of several choices that fits a text: SWAG, RACE.

Give `--config.init=MODEL`, `--config.data.train=FILE` and
`--config.data.eval=FILE`: JSON lines with `text`, the list `choices`, `label`
(from 0, or a letter from A) and optionally `question`, which precedes each
choice (`sent2` in SWAG) or has a gap `_` for it (RACE). This converts a CSV
with one column per choice, such as SWAG's:

  import csv, json
  for row in csv.DictReader(open("train.csv", encoding="utf-8", newline="")):
    print(json.dumps({
      "text": row["sent1"],
      "question": row["sent2"],
      "choices": [row[f"ending{n}"] for n in range(4)],
      "label": int(row["label"]),
    }))

RACE's JSON has `article`, `questions`, `options` and `answers`: write one line
per question, with the article as its text.

Cost: each choice is a row, so a record with four choices costs as much as four
texts in configs/finetune/classification.py. The learning rate is for small
encoders; Devlin et al. (2019, section 4.4) use 2e-5 for a BERT-base.
"""

from ml_collections import ConfigDict

from .. import common


def get_config() -> ConfigDict:
  config = common.finetuning("multiple_choice", "accuracy", learning_rate=5e-5)
  config.batch_size = 16
  return config

"""The span of a context that answers a question: SQuAD 1.1 and 2.0.

Give `--config.init=MODEL`, `--config.data.train=train-v2.0.json` and
`--config.data.eval=dev-v2.0.json`; or JSON lines of `question`, `context` and
`answers`, a list of {"text", "start"} that is empty where there is no answer;
or with `--config.data.format=tfds` a TFDS dataset. If some training questions
have no answer, the model learns to say so, and its threshold is tuned on the
evaluation data.

To train on some articles of one file and evaluate on the last one:

    import json
    *train, last = json.load(open("squad.json"))["data"]
    json.dump({"data": train}, open("train.json", "w"))
    json.dump({"data": [last]}, open("eval.json", "w"))

Cost: some minutes per epoch on two cores, for MiniLM (6 layers of width 384)
and a thousand questions; the 100,000 questions of SQuAD need an accelerator.

Result: few questions need more epochs and a higher learning rate. With MiniLM,
579 questions on four articles, all with answers, `--config.epochs=8` and
`--config.optimizer.learning_rate=2e-4`: EM 0.325 (std 0.023) and F1 0.441
(0.011) on 124 questions on a fifth article, over seeds 0, 1 and 2, each at its
best epoch. With the two epochs below and 1,160 questions, half of them without
an answer, the model only learns to answer that there is none. To compare with:
google-research/bert reports F1 88.4 on SQuAD 1.1, for a BERT-base and 3e-5.
"""

from ml_collections import ConfigDict

from .. import common


def get_config() -> ConfigDict:
  config = common.finetuning("question_answering", metric="f1")
  config.epochs = 2.0
  config.batch_size = 16
  config.data.max_length = 384
  config.data.stride = 128
  return config

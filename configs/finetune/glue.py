"""GLUE, SuperGLUE's sentence tasks, and XNLI, by TFDS: `glue.py:sst2`.

`--config configs/finetune/glue.py:mnli --config.init=WHERE`. Sets are
downloaded and prepared where there is a network (`--config.data.data_dir`
says where they are). Hyperparameters are those of Devlin et al. (2019,
section A.3): 3 epochs of 32, 2e-5 for a BERT-base. Scores to compare with
(dev sets, bert-base-cased, five seeds, Transformers' Flax example): CoLA
59.0 (MCC), SST-2 92.2, MRPC 89.0/84.4 (F1/accuracy), STS-B 88.9 (Pearson), QQP
90.8, MNLI 83.8, QNLI 90.8, RTE 64.8. Not run here: there was no network.
"""

from ml_collections import ConfigDict

# Set, columns of the text and its pair, split to evaluate on, and measure.
ARGUMENTS = {
  "cola": ("glue/cola", "sentence", None, "validation", "mcc"),
  "sst2": ("glue/sst2", "sentence", None, "validation", "accuracy"),
  "mrpc": ("glue/mrpc", "sentence1", "sentence2", "validation", "f1"),
  "stsb": ("glue/stsb", "sentence1", "sentence2", "validation", "pearson"),
  "qqp": ("glue/qqp", "question1", "question2", "validation", "f1"),
  "mnli": (
    "glue/mnli",
    "premise",
    "hypothesis",
    "validation_matched",
    "accuracy",
  ),
  "qnli": ("glue/qnli", "question", "sentence", "validation", "accuracy"),
  "rte": ("glue/rte", "sentence1", "sentence2", "validation", "accuracy"),
  "wnli": ("glue/wnli", "sentence1", "sentence2", "validation", "accuracy"),
  "boolq": (
    "super_glue/boolq",
    "question",
    "passage",
    "validation",
    "accuracy",
  ),
  "cb": ("super_glue/cb", "premise", "hypothesis", "validation", "accuracy"),
  "xnli": ("xnli", "premise.en", "hypothesis.en", "test", "accuracy"),
}


def get_config(name: str = "sst2") -> ConfigDict:
  if name not in ARGUMENTS:
    raise ValueError(f"unknown {name!r}; known: {', '.join(ARGUMENTS)}")
  dataset, text, pair, split, metric = ARGUMENTS[name]
  config = ConfigDict()
  config.task = "regression" if name == "stsb" else "classification"
  config.epochs = 3.0
  config.batch_size = 32
  config.data = {
    "dataset": dataset,
    "train": "train",
    "eval": split,
    "download": True,
    "max_length": 128,
    "columns": {"text": text},
  }
  if pair:
    config.data.columns.pair = pair
  config.model = ConfigDict()
  config.finetuning = ConfigDict()
  config.optimizer = {
    "name": "adamw",
    "learning_rate": 2e-5,
    "weight_decay": 0.01,
    "schedule": {"name": "linear", "warmup_fraction": 0.1},
  }
  config.evaluation = {"every": 0, "examples": 0, "metric": metric}
  config.checkpoint = {"every": 0, "keep": 1}
  config.logging = {"every": 100}
  return config

r"""GLUE, sentence tasks of SuperGLUE, and XNLI from TFDS: `glue.py:sst2`.

`--config configs/finetune/glue.py:mnli --config.init=MODEL`. Datasets are
downloaded and prepared where there is a network; `--config.data.data_dir` names
their folder.

XNLI in TFDS has no training split: `glue.py:xnli` trains on the 2,490 pairs of
`validation`. For the usual zero-shot result, train `glue.py:mnli` and evaluate
that on a language:

    bert-jax evaluate --model RUN --dataset xnli --data test \
      --columns text=premise.de,pair=hypothesis.de

Reproduces: the hyperparameters of Devlin et al. (2019, section A.3) for a
BERT-base: 3 epochs, batches of 32, learning rate 2e-5.

Result: not run here, for lack of a network. To compare with (dev sets,
bert-base-cased, five seeds, the Flax example of Transformers): CoLA 59.0 (MCC),
SST-2 92.2, MRPC 89.0/84.4 (F1/accuracy), STS-B 88.9 (Pearson), QQP 90.8, MNLI
83.8, QNLI 90.8, RTE 64.8.
"""

from ml_collections import ConfigDict

from .. import common

_SENTENCES = ("sentence1", "sentence2")
# Dataset, columns of the text and its pair, metric.
ARGUMENTS = {
  "cola": ("glue/cola", ("sentence",), "mcc"),
  "sst2": ("glue/sst2", ("sentence",), "accuracy"),
  "mrpc": ("glue/mrpc", _SENTENCES, "f1"),
  "stsb": ("glue/stsb", _SENTENCES, "pearson"),
  "qqp": ("glue/qqp", ("question1", "question2"), "f1"),
  "mnli": ("glue/mnli", ("premise", "hypothesis"), "accuracy"),
  "qnli": ("glue/qnli", ("question", "sentence"), "accuracy"),
  "rte": ("glue/rte", _SENTENCES, "accuracy"),
  "wnli": ("glue/wnli", _SENTENCES, "accuracy"),
  "boolq": ("super_glue/boolq", ("question", "passage"), "accuracy"),
  "cb": ("super_glue/cb", ("premise", "hypothesis"), "accuracy"),
  "xnli": ("xnli", ("premise.en", "hypothesis.en"), "accuracy"),
}
# Splits other than `train` and `validation`.
_SPLITS = {
  "mnli": ("train", "validation_matched"),
  "xnli": ("validation", "test"),
}


def get_config(name: str = "sst2") -> ConfigDict:
  if name not in ARGUMENTS:
    raise ValueError(f"unknown {name!r}; known: {', '.join(ARGUMENTS)}")
  dataset, columns, metric = ARGUMENTS[name]
  task = "regression" if name == "stsb" else "classification"
  train, evaluation = _SPLITS.get(name, ("train", "validation"))
  config = common.finetuning(task, metric, learning_rate=2e-5)
  config.data.update(
    dataset=dataset,
    train=train,
    eval=evaluation,
    download=True,
    columns=dict(zip(("text", "pair"), columns)),
  )
  config.logging.every = 100
  return config

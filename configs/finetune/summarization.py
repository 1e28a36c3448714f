r"""Summaries of texts: XSum, CNN/DailyMail, or your own.

Give `--config.init=MODEL`, `--config.data.train=FILE` and
`--config.data.eval=FILE`: JSON lines with `text` and `target`; or a data set of
TFDS, for XSum `--config.data.dataset=xsum --config.data.columns.text=document
--config.data.columns.target=summary --config.data.train=train
--config.data.eval=validation`. Then

    python -m benchmarks.writing summarization --train FILE --eval FILE \
      --model RUN

Reproduces: s2s-ft (Bao et al. 2021, arXiv:2110.13640) for MiniLM-L6-H384 on
XSum: sources of 464 tokens and targets of 48, masked target tokens, label
smoothing 0.1, learning rate 1e-4 and 108,000 updates of 64 texts.

Cost: XSum's 204,000 texts need an accelerator.

Result: not run here, for lack of the data. To compare with: s2s-ft reports
ROUGE-1/2/L 38.8/16.4/31.1.
"""

from ml_collections import ConfigDict

from .. import common


def get_config() -> ConfigDict:
  config = common.finetuning("generation", "perplexity")
  del config.epochs
  config.update({"steps": 108_000, "batch_size": 64})
  config.optimizer.schedule.warmup_fraction = 0.005
  config.evaluation.every = config.checkpoint.every = 4000
  config.data.update(
    max_length=512,
    targets={
      "masked_lm": {
        "objective": "masked",
        "label_smoothing": 0.1,
        "max_target_length": 48,
      }
    },
  )
  return config

"""Settings that several recipes share; each call returns new ones."""

from typing import Any

from ml_collections import ConfigDict


def finetuning(
  task: str, metric: str, learning_rate: float = 1e-4
) -> ConfigDict:
  """AdamW with a linear schedule; evaluation and checkpoint after each epoch.

  The default learning rate suits small encoders, such as MiniLM with 6 layers
  of width 384. For a BERT-base choose 2e-5 to 5e-5 (Devlin et al. 2019,
  section A.3).

  Args:
    task: a name in `bert_jax.tasks.TASKS`.
    metric: the metric that chooses the best checkpoint.
    learning_rate: the peak of the schedule.
  """
  return ConfigDict(
    {
      "task": task,
      "epochs": 3.0,
      "batch_size": 32,
      "data": {"max_length": 128},
      "optimizer": {
        "name": "adamw",
        "learning_rate": learning_rate,
        "weight_decay": 0.01,
        "schedule": {"name": "linear", "warmup_fraction": 0.1},
      },
      "evaluation": {"every": 0, "examples": 0, "metric": metric},
      "checkpoint": {"every": 0, "keep": 1},
      "logging": {"every": 25},
    }
  )


def small_pretraining(corpus: str) -> ConfigDict:
  """Rows of 64 tokens in batches of 32, for two CPU cores.

  More tokens are masked than BERT's 15%, which teaches a small encoder more in
  the same time; docs/speedrun.md has the measurements.

  Args:
    corpus: the folder of the prepared corpus.
  """
  return ConfigDict(
    {
      "batch_size": 32,
      "data": {
        "corpus": corpus,
        "max_length": 64,
        "mask_rate": 0.25,
        "max_predictions": 16,
      },
      "optimizer": {
        "name": "adamw",
        "learning_rate": 2e-3,
        "b2": 0.98,
        "schedule": {"name": "polynomial", "power": 0.5, "warmup_steps": 50},
      },
    }
  )


def small_encoder() -> dict[str, Any]:
  """The section `model`: a ModernBERT (arXiv:2412.13663) of two layers."""
  return {
    "family": "modernbert",
    "num_layers": 2,
    "hidden_size": 192,
    "num_heads": 6,
    # Gated units have three matrices instead of two.
    "intermediate_size": 256,
    "max_positions": 128,
    "num_segments": 0,
    "pre_norm": True,
    "gated": True,
    "biases": False,
    "rotary_base": 10000.0,
    "head_norm": True,
    "pooling": "mean",
    "pooler_activation": "gelu",
    "layer_norm_epsilon": 1e-5,
    # BERT's 0.02 is for a width of 768.
    "initializer_range": 0.06,
    # Hardly any text is seen twice.
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
  }


def writer(tokenizer: str, max_target_length: int) -> ConfigDict:
  """A small encoder that learns to write from initial values, on two cores.

  It trains for half an hour, and the schedule follows the time; on a fast
  machine the run ends earlier, after `steps` updates.

  Args:
    tokenizer: the folder of a vocabulary that keeps spaces and case.
    max_target_length: the longest target in tokens.
  """
  config = finetuning("generation", "perplexity", learning_rate=3e-3)
  del config.epochs
  config.update({"steps": 12000, "hours": 0.5})
  config.model = {
    **small_encoder(),
    "num_layers": 4,
    "intermediate_size": 384,
    "max_positions": 512,
    # Of source and target.
    "num_segments": 2,
  }
  config.data.update(
    tokenizer=tokenizer,
    targets={
      "masked_lm": {
        "label_smoothing": 0.1,
        "max_target_length": max_target_length,
        "positions": "restarted",
      }
    },
  )
  config.optimizer.b2 = 0.98
  config.evaluation.update(every=1000, examples=500)
  config.checkpoint.every = 1000
  return config


def pairs_corpus(file: str, vocab_size: int) -> dict[str, Any]:
  """The section `corpus` for a vocabulary of pairs in JSON lines."""
  part = {"source": "text_files", "files": file, "documents": "line"}
  return {
    "source": "mixture",
    "parts": {name: {**part, "field": name} for name in ("text", "target")},
    "tokenizer": "byte_level",
    "vocab_size": vocab_size,
    "eval_fraction": 0.0,
    "shards": 2,
  }


def parallel_corpus(files: str, vocab_size: int) -> dict[str, Any]:
  """The section `corpus` for the vocabulary of both sides of a translation."""
  return {
    "source": "text_files",
    "files": files,
    "documents": "line",
    "sentences": "line",
    "tokenizer": "byte_level",
    "vocab_size": vocab_size,
    "eval_fraction": 0.0,
    "shards": 2,
  }


def wikipedia(eval_fraction: float) -> dict[str, Any]:
  """The section `corpus` for English Wikipedia from TFDS."""
  return {
    "source": "tfds",
    "dataset": "wikipedia/20230601.en",
    "vocab_size": 30522,
    "eval_fraction": eval_fraction,
    "shards": 256,
  }

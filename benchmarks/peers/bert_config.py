"""The encoder of a job as a config of Transformers."""

import transformers

from benchmarks.peers import Job


def config(job: Job) -> transformers.BertConfig:
  model = job.model
  return transformers.BertConfig(
    vocab_size=model["vocab_size"],
    hidden_size=model["hidden_size"],
    num_hidden_layers=model["num_layers"],
    num_attention_heads=model["num_heads"],
    intermediate_size=model["intermediate_size"],
    max_position_embeddings=model["max_positions"],
    hidden_dropout_prob=model["hidden_dropout"],
    attention_probs_dropout_prob=model["attention_dropout"],
  )

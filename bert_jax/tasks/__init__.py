"""The tasks, by the name that `config.task` gives."""

from bert_jax.tasks import (
  classification,
  dialogue,
  embedding,
  masked_lm,
  multi_label,
  multiple_choice,
  next_sentence,
  pretraining,
  question_answering,
  regression,
  replaced_tokens,
  tagging,
)

TASKS = {
  "classification": classification,
  "dialogue": dialogue,
  "embedding": embedding,
  "masked_lm": masked_lm,
  "multi_label": multi_label,
  "multiple_choice": multiple_choice,
  "next_sentence": next_sentence,
  "pretraining": pretraining,
  "question_answering": question_answering,
  "regression": regression,
  "replaced_tokens": replaced_tokens,
  "tagging": tagging,
}
"""Modules with `make`; those that can be trained have `Data` too.

What a checkpoint has to say of a head is its module's `Head`.
"""

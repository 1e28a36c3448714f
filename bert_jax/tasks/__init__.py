"""The tasks, by the name that `config.task` gives."""

from bert_jax.tasks import (
  masked_lm,
  mixed,
  next_sentence,
  pretraining,
  replaced_tokens,
)

TASKS = {
  **mixed.PARTS,
  "masked_lm": masked_lm,
  "mixed": mixed,
  "next_sentence": next_sentence,
  "pretraining": pretraining,
  "replaced_tokens": replaced_tokens,
}
"""Modules with `make`; those that can be trained have `Data` too.

What a checkpoint has to say of a head is its module's `Head`. Tasks that learn
from labelled records are listed in `mixed.PARTS`.
"""

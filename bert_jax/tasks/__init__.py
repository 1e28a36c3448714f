"""The tasks, by the name that `config.task` gives."""

from bert_jax.tasks import masked_lm, pretraining

TASKS = {"masked_lm": masked_lm, "pretraining": pretraining}
"""Modules with `make`; those that can be trained have `Data` too."""

"""The tasks, by the name that `config.task` gives."""

from bert_jax.tasks import pretraining

TASKS = {"pretraining": pretraining}
"""Modules with `Data`, `load_tokenizer(data)` and `make(...)`."""

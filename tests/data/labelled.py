"""Labelled records as the package reads them."""

from bert_jax import settings
from bert_jax.data import records


def configured(**options):
  return settings.from_dict(records.RecordsConfig, options, "config.data")


def read(path, fields, optional=(), **options):
  config = configured(**{"train": str(path), **options})
  lists = {"words", "tags", "labels"}.intersection(fields)
  return records.read(config, "train", fields, lists, optional)


def contents(found):
  return [row.record for row in found.rows]

"""Importing the package changes no settings of other libraries."""

import os

from tests.commands import python

_CODE = """
import importlib, json, logging, os, pkgutil, warnings
import fsspec.config, grain, jax  # They change some settings themselves.

def settings():
  root, gcsfs = logging.root, logging.getLogger("gcsfs")
  loggers = [(x.level, x.filters[:], x.handlers[:]) for x in (root, gcsfs)]
  config = json.dumps(fsspec.config.conf)
  return config, dict(os.environ), loggers, warnings.filters[:]

before = settings()
import bert_jax, bert_jax.data, bert_jax.storage, bert_jax.text
for package in (bert_jax.data, bert_jax.storage, bert_jax.text):
  prefix = package.__name__ + "."
  for module in pkgutil.walk_packages(package.__path__, prefix):
    importlib.import_module(module.name)
after = settings()
assert after == before, (before, after)
"""


def test_imports_change_nothing_global():
  python(_CODE, env={**os.environ, "FSSPEC_CONFIG_DIR": "nowhere"})

"""Installs `launch` and `configs` inside `bert_jax`, as one top-level package.

Everything else is in pyproject.toml.
"""

import setuptools

INSIDE = ("configs", "launch")

setuptools.setup(
  packages=[
    *setuptools.find_packages(include=["bert_jax", "bert_jax.*"]),
    *(
      f"bert_jax.{name}"
      for top in INSIDE
      for name in setuptools.find_packages(include=[top, f"{top}.*"])
    ),
  ],
  package_dir={f"bert_jax.{top}": top for top in INSIDE},
)

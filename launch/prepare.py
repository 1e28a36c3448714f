"""Prepares a corpus: `python -m launch.prepare --config CONFIG --output DIR`.

Trains a vocabulary, tokenises the text on all cores, and prints what to know
about it. Uses the section `corpus` of the config; any key can be set on the
command line: `--config.corpus.source=text_files --config.corpus.files='*.txt'`.
Run again, it says that the corpus is there already.
"""

import dataclasses

from absl import flags

from bert_jax import settings
from bert_jax.data import corpus, report
from launch import cli

_CONFIG = cli.define_config()
_OUTPUT = flags.DEFINE_string("output", None, "The folder to make.")
_PROCESSES = flags.DEFINE_integer(
  "processes", None, "How many work; by default one a core.", lower_bound=1
)
_OVERWRITE = flags.DEFINE_bool(
  "overwrite", False, "Whether to replace another corpus at --output."
)


def main(_) -> None:
  """Prepares, or finds prepared, and reports."""
  config = _CONFIG.value.to_dict()
  _check_sections(config)
  if "corpus" not in config:
    raise settings.UserError("config.corpus: missing; it says what to prepare")
  prepared = corpus.prepare(
    settings.from_dict(corpus.CorpusConfig, config["corpus"], "config.corpus"),
    _OUTPUT.value,
    _PROCESSES.value,
    _OVERWRITE.value,
  )
  report.print_report(prepared.report)
  print(
    "already prepared:" if prepared.was_there else "prepared:", _OUTPUT.value
  )


def _check_sections(config: dict) -> None:
  # Not at the top: each worker imports this file, and needs no JAX.
  from bert_jax.training.recipe import Recipe

  known = [field.name for field in dataclasses.fields(Recipe)]
  for name in config:
    settings.choice("config", name, dict.fromkeys(known))


if __name__ == "__main__":
  flags.mark_flag_as_required("output")
  cli.run(main)

"""Prepares a corpus: `python -m launch.prepare --config CONFIG --output DIR`.

Trains a vocabulary, tokenises the text on all cores, and prints what to know
about it. Uses the section `corpus` of the config, and the vocabulary of the
model that `init` names, if it names one; any key can be set on the command
line: `--config.corpus.source=text_files --config.corpus.files='*.txt'`.
Run again, it says that the corpus is there already.

On many machines: `--beam_runner=DataflowRunner --beam_options='--project=mine
--region=europe-west4 ...'`, or another of Apache Beam's runners, with options
of its own. All machines must see the text and the output by the same paths,
which may be gs:// or s3://. As many can work at once as there are shards.
"""

import dataclasses

from absl import flags

from bert_jax import settings
from bert_jax.data.corpus import beam, build, report, workers
from launch import cli

_CONFIG = cli.define_config()
_OUTPUT = flags.DEFINE_string(
  "output", None, "The folder to make, here or in a store."
)
_PROCESSES = flags.DEFINE_integer(
  "processes", None, "How many work; by default one a core.", lower_bound=1
)
_OVERWRITE = flags.DEFINE_bool(
  "overwrite", False, "Whether to replace another corpus at --output."
)
_BEAM_RUNNER = flags.DEFINE_enum(
  "beam_runner",
  None,
  beam.RUNNERS,
  "What of Apache Beam runs the work, if any.",
)
_BEAM_OPTIONS = flags.DEFINE_string(
  "beam_options", None, "Apache Beam's pipeline options, '--name=value ...'."
)


# What needs JAX is imported where it is used: each worker imports this file,
# and needs none.


def main(_) -> None:
  """Prepares, or finds prepared, and reports."""
  config = _CONFIG.value.to_dict()
  _check_sections(config)
  if "corpus" not in config:
    raise settings.UserError("config.corpus: missing; it says what to prepare")
  if config.get("init") and not config["corpus"].get("vocabulary"):
    config["corpus"]["vocabulary"] = _vocabulary_of(config["init"])
  prepared = build.prepare(
    settings.from_dict(build.CorpusConfig, config["corpus"], "config.corpus"),
    _OUTPUT.value,
    _PROCESSES.value,
    _OVERWRITE.value,
    _run(),
  )
  report.print_report(prepared.report)
  print(
    "already prepared:" if prepared.already_prepared else "prepared:",
    _OUTPUT.value,
  )


def _run() -> workers.Runner | None:
  if _BEAM_RUNNER.value is None:
    if _BEAM_OPTIONS.value is not None:
      raise settings.UserError("--beam_options: give --beam_runner too")
    return None
  return beam.runner(_BEAM_RUNNER.value, _BEAM_OPTIONS.value or "")


def _vocabulary_of(init: str) -> str:
  from bert_jax.training import opening

  return str(opening.vocabulary_of(init))


def _check_sections(config: dict) -> None:
  from bert_jax.training.recipe import Recipe

  known = [field.name for field in dataclasses.fields(Recipe)]
  for name in config:
    settings.choice("config", name, dict.fromkeys(known))


if __name__ == "__main__":
  flags.mark_flag_as_required("output")
  cli.run(main)

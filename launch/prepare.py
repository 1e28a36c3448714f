"""Prepares a pretraining corpus: vocabulary, tokenization, statistics.

    bert-jax prepare --config CONFIG --output DIR

Trains a vocabulary, tokenizes the text on all cores and prints statistics. The
section `corpus` of the config names the text; where `config.init` names a
model, its vocabulary is used. Any key can be set on the command line:
`--config.corpus.source=text_files --config.corpus.files='*.txt'`. If the corpus
is already prepared, nothing is done.

On many machines: `--beam_runner=DataflowRunner --beam_options='--project=mine
--region=europe-west4 ...'`, or another Apache Beam runner with its options. All
machines must reach the text and the output by the same paths, such as gs:// or
s3:// addresses. The number of shards limits how many work at once.
"""

import dataclasses
import sys
from collections.abc import Sequence

from absl import flags

from bert_jax import settings
from bert_jax.data.corpus import beam, build, report, workers

from . import cli

# Modules that need JAX are imported where they are used: each worker process
# imports this file, and needs none of them.


def define(values: cli.Values) -> None:
  """Defines the flags."""
  cli.define_config(values)
  flags.DEFINE_string(
    "output",
    None,
    "The folder to make, local or in an object store.",
    required=True,
    flag_values=values,
  )
  flags.DEFINE_integer(
    "processes",
    None,
    "The number of worker processes; by default one per core.",
    lower_bound=1,
    flag_values=values,
  )
  flags.DEFINE_bool(
    "overwrite",
    False,
    "Whether to replace another corpus at --output.",
    flag_values=values,
  )
  flags.DEFINE_enum(
    "beam_runner",
    None,
    beam.RUNNERS,
    "The Apache Beam runner that does the work, if any.",
    flag_values=values,
  )
  flags.DEFINE_string(
    "beam_options",
    None,
    "Apache Beam's pipeline options, '--name=value ...'.",
    flag_values=values,
  )


def prepare(values: cli.Values) -> None:
  """Prepares the corpus, or finds it prepared, and reports."""
  config = values.config.to_dict()
  _check_sections(config)
  if "corpus" not in config:
    raise settings.UserError("config.corpus: missing; it says what to prepare")
  if config.get("init") and not config["corpus"].get("vocabulary"):
    config["corpus"]["vocabulary"] = _vocabulary_of(config["init"])
  prepared = build.prepare(
    settings.from_dict(build.CorpusConfig, config["corpus"], "config.corpus"),
    values.output,
    values.processes,
    values.overwrite,
    _run(values),
  )
  report.print_report(prepared.report)
  print(
    "already prepared:" if prepared.already_prepared else "prepared:",
    values.output,
  )


def _run(values: cli.Values) -> workers.Runner | None:
  if values.beam_runner is None:
    if values.beam_options is not None:
      raise settings.UserError("--beam_options: give --beam_runner too")
    return None
  return beam.runner(values.beam_runner, values.beam_options or "")


def _vocabulary_of(init: str) -> str:
  from bert_jax.training import workdir

  return str(workdir.vocabulary_of(init))


def _check_sections(config: dict) -> None:
  from bert_jax.training.recipe import Recipe

  known = [field.name for field in dataclasses.fields(Recipe)]
  for name in config:
    settings.choice("config", name, dict.fromkeys(known))


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command with these arguments; returns its exit code."""
  return cli.run(prepare, define, argv)


if __name__ == "__main__":
  sys.exit(main())

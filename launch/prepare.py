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
import functools
import sys

from bert_jax import settings
from bert_jax.data.corpus import beam, build, report

from . import cli


def define(values: cli.Values) -> None:
  """Defines the flags."""
  cli.define_config(values)
  values.define(
    "output", "The folder to make, local or in an object store.", required=True
  )
  values.define(
    "processes",
    "The number of worker processes; by default one per core.",
    "integer",
    lower_bound=1,
  )
  values.define(
    "overwrite", "Whether to replace another corpus at --output.", "bool", False
  )
  values.define(
    "beam_runner",
    "The Apache Beam runner that does the work, if any.",
    "enum",
    enum_values=beam.RUNNERS,
  )
  values.define(
    "beam_options", "Apache Beam's pipeline options, '--name=value ...'."
  )


def prepare(values: cli.Values) -> None:
  """Prepares the corpus, or finds it prepared, and reports."""
  # Here, since each worker process imports this file, and needs no JAX.
  from bert_jax.training import recipe, workdir

  config = values.config.to_dict()
  known = [field.name for field in dataclasses.fields(recipe.Recipe)]
  for name in config:
    settings.choice("config", name, dict.fromkeys(known))
  if "corpus" not in config:
    raise settings.UserError("config.corpus: missing; it says what to prepare")
  if config.get("init") and not config["corpus"].get("vocabulary"):
    vocabulary = workdir.vocabulary_of(config["init"])
    config["corpus"]["vocabulary"] = str(vocabulary)
  runner = None
  if values.beam_runner is not None:
    runner = beam.runner(values.beam_runner, values.beam_options or "")
  elif values.beam_options is not None:
    raise settings.UserError("--beam_options: give --beam_runner too")
  prepared = build.prepare(
    settings.from_dict(build.CorpusConfig, config["corpus"], "config.corpus"),
    values.output,
    values.processes,
    values.overwrite,
    runner,
  )
  report.print_report(prepared.report)
  print(
    "already prepared:" if prepared.already_prepared else "prepared:",
    values.output,
  )


main = functools.partial(cli.run, prepare, define)

if __name__ == "__main__":
  sys.exit(main())

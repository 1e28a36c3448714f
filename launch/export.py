"""Exports a model for other programs: ONNX, StableHLO, SavedModel, TFLite.

    bert-jax export --model runs/sentiment --to onnx --output exports/sentiment

The folder holds the model, its tokenizer, a model card and a manifest.
`bert_jax.load` opens it again, with the same answers.
"""

import functools
import itertools
import sys

import bert_jax
from bert_jax.data.records import RecordsConfig
from bert_jax.data.sources.labelled import BadRow, Record
from bert_jax.export import folder
from bert_jax.settings import UserError
from bert_jax.tasks import labelled

from . import cli, data_flags, models

# Texts to measure on; each is compared with each.
_MOST = 1000


def define(values: cli.Values) -> None:
  """Defines the flags."""
  models.define(values)
  values.define(
    "to",
    "The format. huggingface is that of Transformers and"
    " sentence-transformers.",
    "enum",
    enum_values=list(folder.KINDS),
    required=True,
  )
  values.define("output", "A new folder, for the export.", required=True)
  values.define(
    "runtime",
    "onnx: standard, which every runtime reads; or onnxruntime, with operators"
    " of its own, which are faster there.",
    "enum",
    enum_values=["standard", "onnxruntime"],
  )
  values.define(
    "layout",
    "onnx: folder; or triton, a model of NVIDIA Triton's model repository.",
    "enum",
    enum_values=list(folder.LAYOUTS),
  )
  values.define(
    "bits",
    "onnx: 8 for weights of 8 bits in dense layers, which only ONNX Runtime"
    " runs; needs --texts.",
    "integer",
  )
  values.define(
    "texts",
    f"onnx: files of texts or records, as predict --input reads them, on which"
    f" the loss by --bits is measured; the first {_MOST:,} are used.",
  )
  values.define(
    "weights",
    "onnx, stablehlo: the weights are beside the model, in a file of their own,"
    " or inside of it, up to 1.5 GB. By default beside.",
    "enum",
    enum_values=["inside", "beside"],
  )
  values.define(
    "platforms",
    "stablehlo: the platforms that the program runs on; by default"
    " cpu,cuda,tpu.",
    "list",
  )
  values.define(
    "length",
    "tflite: the tokens of a row; by default the longest of the task.",
    "integer",
  )


def _records(values: cli.Values, model: bert_jax.Model) -> list[Record]:
  """The records of --texts."""
  config = RecordsConfig(eval=values.texts)
  try:
    rows = labelled.stream_inputs(config, model.task)
    found = list(itertools.islice(rows, _MOST))
  except UserError as error:
    raise UserError(data_flags.in_flags(str(error), "texts")) from error
  for row in found:
    if isinstance(row, BadRow):
      raise UserError(f"{row.where}: {row.reason}")
  return [row.record for row in found]


def export(values: cli.Values) -> None:
  """Exports."""
  if (values.bits is None) != (values.texts is None):
    raise UserError("--bits and --texts go together")
  names = ("runtime", "layout", "bits", "weights", "platforms", "length")
  options = {
    name: values[name].value for name in names if values[name].value is not None
  }
  model = models.load(values, with_parameters=True)
  if values.texts is not None:
    options["records"] = _records(values, model)
  about = folder.export(model, values.output, values.to, **options)
  size = sum(entry["size"] for entry in about["files"].values())
  print(f"{values.output}: {values.to}, {size / 1e6:.1f} MB")
  if about["largest_difference"] is not None:
    print(f"largest difference from JAX: {about['largest_difference']:.2g}")
  for name, value in about.get("measured", {}).items():
    print(f"{name}: {value:.4g}")


main = functools.partial(cli.run, export, define)

if __name__ == "__main__":
  sys.exit(main())

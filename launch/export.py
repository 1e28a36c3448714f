"""Exports a model for other programs: ONNX, StableHLO, SavedModel, TFLite.

    bert-jax export --model runs/sentiment --to onnx --output exports/sentiment

The folder holds the model, its tokenizer, a model card and a manifest.
`bert_jax.load` opens it again, with the same answers.
"""

import functools
import sys

from bert_jax.export import folder
from bert_jax.storage import paths

from . import cli, models


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
    "weights",
    "stablehlo: the weights are inside of the program (up to 1.5 GB) or beside"
    " it, as safetensors.",
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


def export(values: cli.Values) -> None:
  """Exports."""
  names = ("runtime", "layout", "weights", "platforms", "length")
  options = {
    name: values[name].value for name in names if values[name].value is not None
  }
  model = models.load(values)
  about = folder.export(model, values.output, values.to, **options)
  files = paths.list_files(paths.as_path(values.output)).values()
  size = sum(path.stat().st_size for path in files) / 1e6
  print(f"{values.output}: {values.to}, {size:.1f} MB")
  if about["largest_difference"] is not None:
    print(f"largest difference from JAX: {about['largest_difference']:.2g}")


main = functools.partial(cli.run, export, define)

if __name__ == "__main__":
  sys.exit(main())

"""Makes a model smaller without training: layers, heads, tokens, bits.

    bert-jax compress --model MODEL --output small --vocabulary FILES --bits=8

MODEL is anything that `bert_jax.load` accepts. First, heads and units that
`config.pruning` made zeros are removed, which changes no output. Then come the
steps whose flags are given, in this order:

--layers=0,2,4 keeps these layers, --layers=3 as many, evenly spaced.
--heads=0.25 and --units=0.5 remove this share of all attention heads and of the
  units of feed-forward blocks: those that matter least for the loss of the
  labelled records in --data, which are read as `bert-jax evaluate` reads them.
--vocabulary=FILES keeps the tokens of these texts or records, which are read as
  `bert-jax predict` reads them, and all single characters.
--bits=8 or 4 stores kernels and embeddings in these bits.
--exits=patience=2 is how the rows of a model with early exits leave it from now
  on, if nothing else is said.

A model that lost layers, heads or units has to be trained on to be good again:
`bert-jax train --config.init=OUTPUT`.
"""

import functools
import sys
from collections.abc import Iterator

import jax
import numpy as np

import bert_jax
from bert_jax import trees
from bert_jax.compression import structure, vocabulary
from bert_jax.data.records import RecordsConfig
from bert_jax.data.sources.labelled import BadRow
from bert_jax.evaluation import evaluate
from bert_jax.model import Model
from bert_jax.models import quantization
from bert_jax.settings import UserError
from bert_jax.storage import folders, paths
from bert_jax.tasks import labelled

from . import cli, data_flags, models

_STEPS = ("layers", "heads", "units", "vocabulary", "bits", "exits")
_MOST = 1000
"""Records that importance is measured on."""


def define(values: cli.Values) -> None:
  """Defines the flags."""
  models.define(values)
  values.define("output", "A new folder, for the model.", required=True)
  values.define(
    "layers",
    "The numbers of the layers to keep, from 0, such as 0,2,4; or a single"
    " number, how many.",
    "list",
  )
  for name, items in (
    ("heads", "attention heads"),
    ("units", "units of feed-forward blocks"),
  ):
    values.define(
      name,
      f"The share of the {items} to remove, such as 0.25; needs --data.",
      "float",
      lower_bound=0.0,
    )
  values.define(
    "data",
    "Labelled records on which the importance of heads and units is measured;"
    f" {_MOST:,} of them, evenly spaced, are used.",
  )
  values.define(
    "vocabulary", "Files of texts or records, whose tokens are kept."
  )
  values.define(
    "bits",
    "The bits of kernels and embeddings.",
    "enum",
    enum_values=[str(bits) for bits in quantization.BITS],
  )
  data_flags.define(values)


def compress(values: cli.Values) -> None:
  """Compresses."""
  if (values.data is None) != (values.heads is None and values.units is None):
    raise UserError("--data goes with --heads or --units")
  folders.check_new(paths.as_path(values.output))
  model = models.load(values, with_parameters=True)
  _print(values.model, model)
  smaller = None
  for what, smaller in _steps(values, model):
    _print(what, smaller)
  if smaller is None:
    raise UserError(
      f"expected one of --{', --'.join(_STEPS)}; the model has no heads and"
      " units of zeros, as after config.pruning"
    )
  bert_jax.save(smaller, values.output, "bert_jax")
  print(f"saved in {values.output}")


def _steps(values: cli.Values, model: Model) -> Iterator[tuple[str, Model]]:
  """What each step did, and the model after it."""
  zeros = structure.zeros(model)
  if any(zeros):
    model = structure.remove(model, *zeros)
    yield f"{_sizes(model)}, without zeros", model
  if values.layers is not None:
    layers = _layers(values.layers, model.config.num_layers)
    model = structure.keep_layers(model, layers)
    yield f"layers {', '.join(map(str, layers))}", model
  if values.data is not None:
    model = _pruned(values, model)
    yield _sizes(model), model
  if values.vocabulary is not None:
    before = model.config.vocab_size
    model = vocabulary.trim(model, _texts(values, model))
    yield f"{model.config.vocab_size:,} of {before:,} tokens", model
  if values.bits is not None:
    model = model.in_bits(int(values.bits))
    names = [path.rpartition("/")[2] for path in trees.flatten(model.params)]
    wide = names.count("int8")
    more = f", and 8 in {wide} arrays without groups of {quantization.GROUP}"
    is_mixed = values.bits == "4" and wide
    yield f"{values.bits} bits{more if is_mixed else ''}", model
  if values.exits is not None:
    if not model.task.exits.every:
      raise UserError("--exits: --layers leaves early exits out")
    # They are the model's since it was loaded.
    yield f"exits by {values.exits}", model


def _layers(given: list[str], count: int) -> list[int]:
  try:
    numbers = [int(x) for x in given]
  except ValueError:
    raise UserError(
      f"--layers: expected numbers, such as 0,2,4, got {','.join(given)}"
    ) from None
  if len(numbers) != 1:
    return numbers
  return structure.evenly_spaced(count, numbers[0])


def _pruned(values: cli.Values, model: Model) -> Model:
  """The model without its least important heads and units."""
  try:
    given = evaluate.source(
      models.names(values)[0],
      model.task,
      values.data,
      values.task,
      **data_flags.changes(values),
    )
    rows = labelled.read_split(given.data, model.task, "eval", given.also).rows
    count = min(_MOST, len(rows))
    places = np.linspace(0, len(rows) - 1, count).round().astype(int)
    found = structure.importance(model, [rows[i].record for i in places])
  except UserError as error:
    raise UserError(data_flags.in_flags(str(error), "data")) from error
  return structure.remove(
    model,
    structure.least_important(found.heads, values.heads or 0),
    structure.least_important(found.units, values.units or 0),
  )


def _sizes(model: Model) -> str:
  """The heads and units of each layer."""
  config = model.config
  layers = [config.of_layer(index) for index in range(config.num_layers)]
  heads = " ".join(str(layer.num_heads) for layer in layers)
  units = " ".join(str(layer.intermediate_size) for layer in layers)
  return f"heads {heads}, units {units}"


def _texts(values: cli.Values, model: Model) -> list[str]:
  """The texts of --vocabulary."""
  config = RecordsConfig(eval=values.vocabulary, **data_flags.changes(values))
  try:
    rows = labelled.stream_inputs(config, model.task)
    found: list[str] = []
    for row in rows:
      if isinstance(row, BadRow):
        if config.bad_rows == "fail":
          raise UserError(f"{row.where}: {row.reason}")
        continue
      found += vocabulary.texts(model.task, row.record)
  except UserError as error:
    raise UserError(data_flags.in_flags(str(error), "vocabulary")) from error
  return found


def _print(what: str, model: Model) -> None:
  size = sum(x.nbytes for x in jax.tree.leaves(model.params))
  params = jax.eval_shape(quantization.dequantize, model.params)
  print(f"{trees.count(params):>13,} parameters, {size / 1e6:8.2f} MB: {what}")


main = functools.partial(cli.run, compress, define)

if __name__ == "__main__":
  sys.exit(main())

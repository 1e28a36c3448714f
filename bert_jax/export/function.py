"""A model as a function of plain arrays, for formats that JAX lowers it to."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import export
from jaxtyping import Array

from bert_jax import trees
from bert_jax.batch import Batch, Parameters
from bert_jax.engines import batches
from bert_jax.export.parts import Part, module, parts
from bert_jax.models import heads, pooling
from bert_jax.tasks.inputs.choices import Choices
from bert_jax.tasks.inputs.pairs import Pairs
from bert_jax.tasks.targets.similarity import Similarity
from bert_jax.tasks.task import Task

Arrays = Mapping[str, Any]
"""Arrays by name; parameters by path."""


@dataclasses.dataclass(frozen=True)
class Function:
  """A model as a function of its weights and inputs.

  Its inputs are those of the ONNX graph (see `export.onnx.build`), as int32.
  So are its outputs, all float32, but for `sparse_embedding`. The numbers of
  rows and of tokens may be symbolic, and the device any: attention is that of
  plain XLA.

  Attributes:
    weights: the parameters by their paths, float32 NumPy arrays.
    inputs: the names of the axes of each input.
    call: from weights and inputs to the outputs by their names.
    longest: the maximum length of a row, in tokens.
  """

  weights: Arrays
  inputs: Mapping[str, tuple[str, ...]]
  call: Callable[[Arrays, Arrays], dict[str, Array]]
  longest: int

  @functools.cached_property
  def shapes(self) -> Mapping[str, jax.ShapeDtypeStruct]:
    """The symbolic shapes of the inputs."""
    scope = export.SymbolicScope([f"length <= {self.longest}"])
    return {
      name: jax.ShapeDtypeStruct(
        export.symbolic_shape(f"{', '.join(axes)},", scope=scope), jnp.int32
      )
      for name, axes in self.inputs.items()
    }

  def describe(self) -> dict[str, list[dict[str, Any]]]:
    """The `inputs` and `outputs` of a manifest: name, dtype, shape."""
    outputs = jax.eval_shape(self.call, self.weights, self.shapes)
    return {
      key: [
        {
          "name": name,
          "dtype": str(x.dtype),
          "shape": [n if isinstance(n, int) else str(n) for n in x.shape],
        }
        for name, x in found.items()
      ]
      for key, found in (("inputs", self.shapes), ("outputs", outputs))
    }


def make(task: Task, params: Parameters) -> Function:
  """The function of a model.

  Args:
    task: bound to its encoder.
    params: the parameters of its module.

  Raises:
    UserError: the model is an ensemble.
  """
  made = parts(task, params)
  wanted = _inputs(task, made)

  def call(weights: Arrays, inputs: Arrays) -> dict[str, Array]:
    batch, tree = _batch(inputs), trees.unflatten(weights)
    found: dict[str, Array] = {}
    for part in made:
      own = tree
      if part.prefix:
        name = part.prefix.removesuffix("/")
        own = {"encoder": tree["encoder"], **tree.get(name, {})}
      found |= _outputs(part, own, batch)
    return found

  return Function(_flat(params), wanted, call, task.config.max_positions)


def _flat(params: Parameters) -> dict[str, Any]:
  found = trees.flatten(jax.device_get(dict(params)))
  return {path: x.astype("float32") for path, x in found.items()}


def _inputs(task: Task, made: Sequence[Part]) -> dict[str, tuple[str, ...]]:
  row: tuple[str, ...] = ("batch", "length")
  if isinstance(task.inputs, Choices):
    row = ("batch", "choices", "length")
  found = {"input_ids": row, "attention_mask": row}
  if task.config.num_segments > 1:
    found["token_type_ids"] = row
  used = [head for part in made for head in part.heads.values()]
  if any(isinstance(head, heads.MaskedLanguageHead) for head in used):
    found[batches.MASKED] = ("batch", "predictions")
  inputs = [part.task.inputs for part in made]
  if any(isinstance(x, Pairs) and not x.include_prompt for x in inputs):
    found[batches.SKIPPED] = ("batch",)
  return found


def _batch(inputs: Arrays) -> Batch:
  ids = inputs["input_ids"]
  used = (inputs["attention_mask"] > 0).astype(jnp.int32)
  return Batch(
    token_ids=ids,
    segment_ids=inputs.get("token_type_ids", jnp.zeros_like(ids)),
    position_ids=jnp.maximum(jnp.cumsum(used, axis=-1) - 1, 0),
    sequence_ids=used,
    targets={
      target: inputs[name]
      for name, target in batches.TARGETS.items()
      if name in inputs
    },
  )


def _outputs(part: Part, params: Parameters, batch: Batch) -> dict[str, Array]:
  """The outputs of one part."""
  task = part.task
  inputs = task.inputs
  if not (isinstance(inputs, Pairs) and not inputs.include_prompt):
    # It is an input of another part.
    targets = dict(batch.targets)
    targets.pop(batches.TARGETS[batches.SKIPPED], None)
    batch = dataclasses.replace(batch, targets=targets)
  outputs = module(task).apply({"params": params}, batch)
  found = {batches.TOKENS: outputs.pop(batches.TOKENS)}
  for name, target in task.targets.items():
    head = task.head_names[name]
    if isinstance(target, Similarity):
      vectors = _vectors(target, outputs[head], batch)
      found[f"{part.prefix}sentence_embedding"] = vectors
    if isinstance(part.heads[head], heads.MaskedLanguageHead):
      outputs[head] = outputs[head][..., : task.config.vocab_size]
    if not isinstance(part.heads[head], heads.HiddenStates):
      found[part.prefix + head] = outputs[head]
  return found


def _vectors(target: Similarity, output: Array, batch: Batch) -> Array:
  """The vectors of texts, as `Similarity.predict` gives them."""
  vectors = output
  if not target.modules:
    skipped = batch.targets.get(batches.TARGETS[batches.SKIPPED])
    vectors = pooling.pool_tokens(
      output, batch.sequence_ids, target.modes, skipped
    )
  if target.normalize:
    vectors = pooling.unit(vectors)
  return vectors[..., : target.truncate_dim or vectors.shape[-1]]

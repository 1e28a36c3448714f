"""Compiles the update of Transformers' Flax BERT for a TPU slice.

  python -m benchmarks.peers.flax_aot JOB

The options of the job are `topology`, `topology_options`, `rows` per chip,
`length`, and `text`, the file for the compiled program. Data parallel, in
bfloat16. Prints the memory of a chip by kind, in bytes, as JSON; `null` if the
update does not fit.
"""

import json
import os
import pathlib
import sys

# The compiler must not look for chips, which it would lock, nor for Google's
# machines.
os.environ |= {
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
  "JAX_PLATFORMS": "cpu",
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_ACCELERATOR_TYPE": "none",
  "TPU_WORKER_HOSTNAMES": "localhost",
}

import jax
import jax.numpy as jnp
import transformers
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks.peers import Job, flax_bert


def lower(job: Job) -> jax.stages.Lowered:
  """Lowers the update for all chips of the slice."""
  options = job.options
  slice_ = topologies.get_topology_desc(
    platform="tpu",
    topology_name=options["topology"],
    **options["topology_options"],
  )
  chips = len(slice_.devices)
  mesh = jax.make_mesh(
    (chips,),
    ("data",),
    axis_types=(jax.sharding.AxisType.Auto,),
    devices=slice_.devices,
  )
  replicated = NamedSharding(mesh, PartitionSpec())
  split = NamedSharding(mesh, PartitionSpec("data"))
  model = transformers.FlaxBertForPreTraining(
    transformers.BertConfig(**job.model), dtype=jnp.bfloat16, _do_init=False
  )
  init, step = flax_bert.make_step(job, model)
  state = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated),
    jax.eval_shape(init, model.params_shape_tree),
  )
  rows = (options["rows"] * chips, options["length"])
  shapes = {
    "input_ids": rows,
    "token_type_ids": rows,
    "attention_mask": rows,
    "labels": rows,
    "pairs": rows[:1],
  }
  batch = {
    name: jax.ShapeDtypeStruct(shape, jnp.int32, sharding=split)
    for name, shape in shapes.items()
  }
  return jax.jit(step, donate_argnums=0, out_shardings=replicated).lower(
    state, batch
  )


def main() -> None:
  job = Job(**json.loads(pathlib.Path(sys.argv[1]).read_text()))
  lowered = lower(job)
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    print(json.dumps(None))
    return
  pathlib.Path(job.options["text"]).write_text(compiled.as_text())
  memory = compiled.memory_analysis()
  kinds = {
    "arguments": memory.argument_size_in_bytes,
    "temporaries": memory.temp_size_in_bytes,
    # Arguments that are not donated have a separate buffer for the result.
    "results": memory.output_size_in_bytes - memory.alias_size_in_bytes,
    "program": memory.generated_code_size_in_bytes,
  }
  print(json.dumps(kinds))


if __name__ == "__main__":
  main()

"""Compiles the update of Transformers' Flax BERT for a TPU slice.

  python -m benchmarks.peers.flax_ahead JOB

The job's options: `topology`, `topology_options`, `rows` of a chip, `length`,
and `text`, the file to write the compiled program to. Data parallel, in
bfloat16. Prints the bytes of a chip's memory as JSON, `null` where they do not
suffice.
"""

import json
import os
import pathlib
import sys

# The compiler looks for no chip, which it would keep others from, and for none
# of Google's machines.
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
from benchmarks.peers.bert_config import config


def lower(job: Job) -> jax.stages.Lowered:
  """The update, for all chips of the slice."""
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
  everywhere = NamedSharding(mesh, PartitionSpec())
  split = NamedSharding(mesh, PartitionSpec("data"))
  model = transformers.FlaxBertForPreTraining(
    config(job), dtype=jnp.bfloat16, _do_init=False
  )
  init, step = flax_bert.make_step(job, model)
  state = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere),
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
  return jax.jit(step, donate_argnums=0, out_shardings=everywhere).lower(
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
    "given": memory.argument_size_in_bytes,
    "temporaries": memory.temp_size_in_bytes,
    # What is given and not donated has a second place for the result.
    "results": memory.output_size_in_bytes - memory.alias_size_in_bytes,
    "program": memory.generated_code_size_in_bytes,
  }
  print(json.dumps(kinds))


if __name__ == "__main__":
  main()

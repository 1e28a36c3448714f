"""bert_jax: the update of `training.train`, and `Model` for inference."""

import dataclasses
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers import Job, Rows, Run
from bert_jax import text
from bert_jax.model import Model
from bert_jax.models.config import encoder_config
from bert_jax.tasks import EMBEDDING
from bert_jax.tasks.inputs.pairs import Pairs
from bert_jax.training import run as run_lib
from bert_jax.training.compilation import CompiledUpdate
from bert_jax.training.mesh import partitioning
from bert_jax.training.recipe import Recipe
from bert_jax.training.train import make_update
from bert_jax.types import Batch
from launch import process

process.keep_memory()  # As a command does.

_FIELDS = ("token_ids", "segment_ids", "position_ids", "sequence_ids")


def training(job: Job) -> Run:
  recipe = Recipe.from_dict(job.config)
  task, _ = recipe.make_task()
  layout = partitioning.make_layout(recipe.mesh)
  optimizer, frozen = run_lib.make_optimizer(recipe, task)
  state = partitioning.init_state(
    lambda: run_lib.initial_state(recipe, task, optimizer), layout
  )
  update = CompiledUpdate(
    make_update(task, optimizer, recipe.accumulation, frozen),
    layout.mesh,
    recipe.batch_size,
    recipe.compiler_options,
  )

  def run(batches: Sequence[Rows]) -> float:
    nonlocal state
    for rows in batches:
      batch = _batch(rows)
      if not update.is_compiled(batch):
        update.compile(state, batch)
      state, measures = update(state, batch)
    return float(measures["mlm_loss"].value())  # Waits.

  return run


def inference(job: Job) -> Run:
  """Starts from texts, so it includes the tokenizer."""
  options = job.options
  tokenizer = text.load(options["tokenizer"])
  task = dataclasses.replace(EMBEDDING, inputs=Pairs(options["length"])).bind(
    encoder_config(job.model), tokenizer
  )
  params = jax.jit(task.init_params)(jax.random.key(0))
  model = Model(task, params, batch_size=options["rows"])

  def run(batches: Sequence[Sequence[str]]) -> None:
    model(list(itertools.chain(*batches)))

  return run


def peak(job: Job) -> Run:
  shape = (job.options["size"], job.options["size"])
  a, b = (jax.random.normal(jax.random.key(n), shape) for n in range(2))
  product = jax.jit(jnp.dot)

  def run(batches: Sequence[None]) -> float:
    for _ in batches:
      c = product(a, b).block_until_ready()
    return float(c[0, 0])

  return run


def versions() -> dict[str, str]:
  return {"jax": jax.__version__, "numpy": np.__version__}


def _batch(rows: Rows) -> Batch:
  targets = {n: x for n, x in rows.items() if n not in _FIELDS}
  return Batch(**{n: rows[n] for n in _FIELDS}, targets=targets)

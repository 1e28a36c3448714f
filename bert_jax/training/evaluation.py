"""Measures on held-out examples."""

from collections.abc import Callable, Iterable

import jax

from bert_jax.training.step import Measures
from bert_jax.types import Batch, Parameters, add_means


def evaluate(
  step: Callable[[Parameters, Batch], Measures],
  params: Parameters,
  batches: Iterable[Batch],
) -> dict[str, float]:
  """The mean of every loss and metric over all batches.

  Args:
    step: a jitted function of `make_evaluation_step`.
    params: the parameters to look at.
    batches: batches on the devices, all of the same shape.

  Returns:
    Values by name, each divided once by its total weight.
  """
  measures = [step(params, batch) for batch in batches]
  totals = add_means(jax.device_get(measures))
  return {name: float(mean.value()) for name, mean in totals.items()}

"""Runs of so many hours, whose schedule goes by the time.

What one device does in a day is told by its clock and not by its updates
(Izsak et al. 2021, arXiv:2104.07705; Geiping and Goldstein 2023,
arXiv:2212.14034).
"""

from bert_jax.cluster.goodput import Ledger

_COUNTED = ("training", "loading", "evaluating", "saving")


def now(ledger: Ledger, hours: float, steps: int) -> float:
  """Where a run of so many hours is in its schedule: a step, at most the last.

  Starting and compiling do not count, nor what a crash threw away. A run that
  is faster than its schedule goes by its updates.

  Args:
    ledger: of the run.
    hours: of the whole run, over restarts.
    steps: of the schedule.
  """
  share = ledger.spent(_COUNTED) / (hours * 3600)
  return min(max(share * steps, ledger.step), steps)

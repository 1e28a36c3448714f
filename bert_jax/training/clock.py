"""Runs of so many hours, whose schedule goes by the time.

What one device does in a day is told by its clock and not by its updates
(Izsak et al. 2021, arXiv:2104.07705; Geiping and Goldstein 2023,
arXiv:2212.14034).
"""

from bert_jax.training.goodput import Ledger

_COUNTED = ("training", "loading", "evaluating", "saving")


class Clock:
  """Where a run of so many hours is in its schedule.

  Starting and compiling do not count, nor what a crash threw away.
  """

  def __init__(self, hours: float, steps: int, ledger: Ledger):
    """Makes a clock.

    Args:
      hours: of the whole run, over restarts.
      steps: of the schedule.
      ledger: of the run.
    """
    self._seconds, self._steps, self._ledger = hours * 3600, steps, ledger

  def now(self, done: int) -> float:
    """The step of the schedule, at most the last.

    Args:
      done: updates so far; a run that is faster than its schedule goes by
        them.
    """
    share = self._ledger.spent(_COUNTED) / self._seconds
    return min(max(share * self._steps, done), self._steps)

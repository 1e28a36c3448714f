"""What the best constant answer scores, among other measures.

`accuracy_majority_baseline` is that of `accuracy`, and of the kind `majority`.
"""

from collections.abc import Iterable, Mapping

_SUFFIX = "_baseline"


def measures(names: Iterable[str]) -> list[str]:
  """The names that are not of baselines."""
  return [name for name in names if not name.endswith(_SUFFIX)]


def of(measure: str, values: Mapping[str, float]) -> dict[str, float]:
  """A measure's baselines, by their kinds.

  Args:
    measure: its name.
    values: measures and baselines by name.
  """
  known = measures(values)
  found = {}
  for name, value in values.items():
    if not name.endswith(_SUFFIX):
      continue
    stem = name.removesuffix(_SUFFIX)
    # The longest name that fits, for `rmse` may be beside `rmse_mean`.
    owners = [other for other in known if stem.startswith(f"{other}_")]
    if owners and max(owners, key=len) == measure:
      found[stem.removeprefix(f"{measure}_")] = value
  return found

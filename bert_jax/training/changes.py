"""What a resumed run would change of its config."""

import re
from collections.abc import Mapping
from typing import Any

# Keys that a resumed run may change: they do not touch what is learned.
# Paths may be others to the same data, which is checked; those of each part
# of several tasks too.
MAY_CHANGE = (
  "checkpoint",
  "compiler_options",
  "corpus",
  "data.corpus",
  "data.eval",
  "data.train",
  "data.tokenizer",
  "evaluation",
  "guard.max_skipped",
  "guard.stuck_seconds",
  "logging",
  "mesh",
  "workers",
)
_PART = re.compile(r"^data\.tasks\.[^.]+\.")


def differences(
  old: Mapping[str, Any], new: Mapping[str, Any], path: str = ""
) -> list[str]:
  """What a resumed run would change, one line a key, or nothing.

  Keys in `MAY_CHANGE` are passed over.
  """
  lines = []
  for key in sorted({*old, *new}):
    name = f"{path}{key}"
    if _PART.sub("data.", name) in MAY_CHANGE:
      continue
    before, after = old.get(key), new.get(key)
    if isinstance(before, Mapping) and isinstance(after, Mapping):
      lines += differences(before, after, f"{name}.")
    elif _plain(before) != _plain(after):
      lines.append(f"config.{name}: {before!r} -> {after!r}")
  return lines


def _plain(value: Any) -> Any:
  """JSON has lists where dataclasses have tuples."""
  return list(value) if isinstance(value, tuple) else value

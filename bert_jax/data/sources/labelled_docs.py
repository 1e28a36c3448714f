"""A classification data set without a download: passages of docstrings.

The label of a passage is its package. The splits have no module in common. By
default there are few training records, where pretraining matters most, and many
evaluation records, for small standard errors.
"""

import collections
import json
import pathlib
import random
import tempfile

from bert_jax.data.sources import installed_docs

LABELS = 8
"""The number of labels: the packages with the most passages."""

_SHORTEST, _LONGEST = 80, 400  # The number of characters of a passage.
_EVAL_SHARE = 0.5  # Of the modules.


def write(
  folder: pathlib.Path,
  train: int = 20,
  evaluation: int = 300,
  processes: int = 1,
) -> dict[str, int]:
  """Writes `train.jsonl` and `eval.jsonl` with records {"text", "label"}.

  `train` and `evaluation` are the maximum numbers of passages per package.
  Returns the number of records of each split.
  """
  folder.mkdir(parents=True, exist_ok=True)
  passages: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
  with tempfile.TemporaryDirectory() as scratch:
    source = installed_docs.open_source(pathlib.Path(scratch), processes)
    rng = random.Random(0)
    for i in range(len(source)):
      record = source[i]
      split = "eval" if rng.random() < _EVAL_SHARE else "train"
      passages[record["label"], split] += _cut(record["text"])
  sizes: collections.Counter[str] = collections.Counter()
  for (label, split), found in passages.items():
    if split == "train":
      sizes[label] = len(found)
  labels = sorted(label for label, _ in sizes.most_common(LABELS))
  counts = {}
  for split, most in (("train", train), ("eval", evaluation)):
    rng, rows = random.Random(split), []
    for label in labels:
      found = passages[label, split]
      chosen = rng.sample(found, min(most, len(found)))
      rows += [{"text": text, "label": label} for text in chosen]
    lines = (json.dumps(row) + "\n" for row in rows)
    (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    counts[split] = len(rows)
  return counts


def _cut(text: str) -> list[str]:
  """Joins paragraphs to passages of at most `_LONGEST` characters."""
  passages, current = [], ""
  for paragraph in text.split("\n\n"):
    if current and len(current) + len(paragraph) > _LONGEST:
      passages.append(current)
      current = ""
    current = f"{current} {paragraph}".strip()
  passages.append(current)
  return [passage for passage in passages if len(passage) >= _SHORTEST]

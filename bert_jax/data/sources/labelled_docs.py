"""Passages of the installed documentation, labelled with their package.

A classification task that every user has at hand: which package does this
text come from? Modules are either for training or for evaluation, so that no
passage is beside one of its own module.
"""

import collections
import json
import pathlib
import random
import tempfile

from bert_jax.data.sources import installed_docs

LABELS = 8
"""How many packages: those with the most passages."""

_SHORTEST, _LONGEST = 80, 400  # Characters of a passage.
_HELD_OUT = 5  # One module in so many.


def write(
  folder: pathlib.Path,
  train: int = 500,
  evaluation: int = 100,
  processes: int = 1,
) -> dict[str, int]:
  """Writes `train.jsonl` and `eval.jsonl`, records {"text", "label"}.

  Args:
    folder: where to; made if it is not there.
    train: passages of a package for training, at most.
    evaluation: the same for evaluation.
    processes: how many processes read the documentation.

  Returns:
    How many records each file has.
  """
  folder.mkdir(parents=True, exist_ok=True)
  passages: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
  with tempfile.TemporaryDirectory() as scratch:
    source = installed_docs.open_source(pathlib.Path(scratch), processes)
    rng = random.Random(0)
    for i in range(len(source)):
      record = source[i]
      split = "eval" if rng.randrange(_HELD_OUT) == 0 else "train"
      passages[record["label"], split] += _cut(record["text"])
  sizes = collections.Counter(
    {
      label: len(found)
      for (label, split), found in passages.items()
      if split == "train"
    }
  )
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
  """Whole paragraphs together, as many as a passage has room for."""
  passages, current = [], ""
  for paragraph in text.split("\n\n"):
    if current and len(current) + len(paragraph) > _LONGEST:
      passages.append(current)
      current = ""
    current = f"{current} {paragraph}".strip()
  passages.append(current)
  return [passage for passage in passages if len(passage) >= _SHORTEST]

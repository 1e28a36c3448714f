"""For each task a record that it takes, and a model to take it."""

import dataclasses
import functools
import json

import numpy as np

from bert_jax import settings
from bert_jax.model import Model
from bert_jax.tasks import DATA, TASKS, Target, make
from bert_jax.tasks.targets.target import to_json
from bert_jax.tasks.targets.token_labels import Labelled
from tests import pytrees, small

ENCODER = dataclasses.replace(small.ENCODER, num_layers=1)
TEXT = "the array sorts names in place , it is a list"
MASKED = "the array [MASK] names in place , it [MASK] a list"
LONG = "it sorted a list of names . the array is in place . " * 6

# All alone make a row of 16 tokens when padded, and with the others 4 rows of
# 32, so that little is compiled.
RECORDS = {
  "classification": {"text": TEXT, "pair": "a list"},
  "dialogue": {"text": TEXT},
  "embedding": {"text": TEXT},
  "generation": {"text": TEXT},
  "masked_lm": {"text": MASKED},
  "multi_label": {"text": TEXT, "pair": "a list"},
  "multiple_choice": {"text": TEXT, "choices": ["list", "it", "names"]},
  "next_sentence": {"text": TEXT, "pair": "a list"},
  "pretraining": {"text": MASKED},
  "pseudo_log_likelihood": {"text": TEXT},
  "question_answering": {"question": "the array", "context": TEXT},
  "regression": {"text": TEXT, "pair": "a list"},
  "replaced_tokens": {"text": TEXT},
  "tagging": {"text": TEXT},
}
# Each makes a larger batch of the one above: more, or longer, or more of them.
OTHERS = {
  "classification": [{"text": LONG}, {"text": ""}],
  "dialogue": [{"text": LONG}, {"words": ["the", "list"]}, {"text": ""}],
  "embedding": [{"text": LONG}, {"text": ""}],
  "generation": [{"text": LONG}, {"turns": ["the list", "it sorts"]}],
  "masked_lm": [{"text": "the [MASK] " * 12}] * 2,
  "multi_label": [{"text": LONG}, {"text": ""}],
  "multiple_choice": [{"text": LONG, "choices": ["it"] * 3}],
  "next_sentence": [{"text": "it", "pair": LONG}, {"text": "", "pair": ""}],
  "pretraining": [{"text": "the [MASK] " * 12}] * 2,
  "pseudo_log_likelihood": [{"text": TEXT + " and it sorts [ ] mask"}],
  "question_answering": [{"question": "a list", "context": LONG}],
  "regression": [{"text": LONG}, {"text": ""}],
  "replaced_tokens": [{"text": LONG}, {"text": ""}],
  "tagging": [{"text": LONG}, {"words": ["the", "list"]}, {"text": ""}],
}


def task(name, inputs=None, config=ENCODER, **targets):
  """A task with other inputs or targets, bound to an encoder."""
  made = TASKS[name].for_published()
  made = made.with_targets({**made.targets, **targets})
  if inputs is not None:
    made = dataclasses.replace(made, inputs=inputs)
  return made.bind(config, small.tokenizer())


@functools.cache
def model(name, batch_size=4):
  made = task(name)
  return Model(made, pytrees.of_task(made), batch_size=batch_size)


def fit(folder, name, rows, eval_rows=None, pretrained=None, **keys):
  """A task fitted to records, or to the contents of a TSV file, and its data.

  Options of targets are given by the names of targets: `label={"balanced": 1}`.
  For a pretrained task its only target is enough.
  """
  if isinstance(pretrained, Target):
    (target,) = TASKS[name].targets
    pretrained = task(name, **{target: pretrained})
  paths = {}
  for split, given in (("train", rows), ("eval", eval_rows or rows)):
    if split in keys:
      continue
    is_table = isinstance(given, str)
    path = folder / f"{split}.{'tsv' if is_table else 'jsonl'}"
    lines = [] if is_table else [json.dumps(row) + "\n" for row in given]
    path.write_text(given if is_table else "".join(lines))
    paths[split] = str(path)
  targets = {n: keys.pop(n) for n in TASKS[name].targets if n in keys}
  section = {**paths, "targets": targets, **keys}
  data = settings.from_dict(DATA[name], section, "config.data")
  return make(data, ENCODER, small.tokenizer(), pretrained)


def labelled(ids):
  """The prediction of these tags, for words of one character."""
  starts = np.arange(len(ids))
  return Labelled(starts, starts + 1, np.array(ids), np.full(len(ids), 0.5))


def assert_same(one, other):
  """Compares answers as JSON has them, numbers but about."""
  if not isinstance(one, dict | list | float | int | str | None):
    one, other = (
      json.loads(json.dumps(x, default=to_json)) for x in (one, other)
    )
  if isinstance(one, dict):
    assert one.keys() == other.keys()
    one, other = list(one.values()), list(other.values())
  if isinstance(one, list):
    assert len(one) == len(other)
    for pair in zip(one, other):
      assert_same(*pair)
  elif isinstance(one, float):
    np.testing.assert_allclose(one, other, atol=1e-4, rtol=1e-4)
  else:
    assert one == other

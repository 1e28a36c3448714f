"""For each task that is fine-tuned a tiny data set, by a rule to be learned."""

import contextlib
import io
import json
import random

from bert_jax.training import run
from bert_jax.training.recipe import Recipe
from tests import small

FILLERS = ("the", "is", "in", "place", "of", "names", "it", "them")
KINDS = ("list", "array", "sorts")
MODEL = {
  "hidden_size": 16,
  "num_layers": 1,
  "num_heads": 2,
  "intermediate_size": 32,
  "max_positions": 32,
}


def _classification(words, kind):
  return {"text": " ".join(words), "label": kind}


def _multi_label(words, kind):
  labels = [word for word in KINDS if word in words]
  return {"text": " ".join(words), "labels": labels}


def _regression(words, kind):
  return {"text": " ".join(words), "values": [3.0 * KINDS.index(kind) - 1]}


def _tagging(words, kind):
  tags = [f"B-{word}" if word in KINDS else "O" for word in words]
  return {"words": words, "tags": tags}


def _dialogue(words, kind):
  return {**_tagging(words, kind), "label": kind}


def _question_answering(words, kind):
  context = " ".join(words)
  # A question for what the context does not have has no answer.
  answers = [] if kind == "sorts" else [_found(context, kind)]
  question = "a names" if kind == "sorts" else f"a {kind}"
  return {"question": question, "context": context, "answers": answers}


def _found(context, word):
  return {"text": word, "start": context.index(word)}


def _multiple_choice(words, kind):
  first = KINDS.index(kind)
  choices = [*KINDS[first:], *KINDS[:first]]
  label = choices.index("list")
  return {"text": " ".join(words), "choices": choices, "label": label}


def _embedding(words, kind):
  return {"text": " ".join(words), "pair": f"a {kind} [{words[0]}]"}


def _generation(words, kind):
  return {"text": " ".join(words), "target": f"the {kind} {words[0]}"}


_RULES = {
  "classification": _classification,
  "dialogue": _dialogue,
  "embedding": _embedding,
  "generation": _generation,
  "multi_label": _multi_label,
  "multiple_choice": _multiple_choice,
  "question_answering": _question_answering,
  "regression": _regression,
  "tagging": _tagging,
}
# A field of each, and what may not be in it, with what is said of it.
WRONG = {
  "classification": ("label", 0.5, "the label 0.5: expected a name"),
  "dialogue": ("label", 0.5, "the label 0.5: expected a name"),
  "embedding": ("pair", 3, "the field 'pair', a text"),
  "generation": ("target", 3, "the field 'target', a text"),
  "multi_label": ("labels", [0.5], "the label 0.5: expected a name"),
  "multiple_choice": ("label", 3, "the label '3': expected the place of one"),
  "question_answering": (
    "answers",
    [{"text": "array", "start": 1}],
    "the answer 'array' is not at character 1",
  ),
  "regression": ("values", ["much"], "expected a number, got 'much'"),
  "tagging": ("tags", [0.5] * 5, "the label 0.5: expected a name"),
}
# The field that is the text.
TEXTS = {"dialogue": "words", "question_answering": "context"}
TEXTS |= {"tagging": "words"}


def records(name, count=12, seed=0):
  """Records of five words, one of which is of a kind."""
  rng = random.Random(seed)
  made = []
  for number in range(count):
    kind = KINDS[number % len(KINDS)]
    words = rng.sample(FILLERS, 4)
    words.insert(rng.randint(0, 4), kind)
    made.append(_RULES[name](words, kind))
  return made


def write(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


def data(folder, name, count=12, **keys):
  """Writes the data set of a task; the section `config.data` for it."""
  if name == "multi_task":
    return {"tasks": parts(folder, count), "tokenizer": tokenizer(folder)}
  train, evaluation = (
    write(folder / f"{name}_{split}.jsonl", records(name, size, seed))
    for seed, (split, size) in enumerate([("train", count), ("eval", 7)])
  )
  return {
    "train": train,
    "eval": evaluation,
    "max_length": 16,
    "tokenizer": tokenizer(folder),
    **keys,
  }


def parts(folder, count=12, names=("classification", "tagging")):
  """The section `config.data.tasks`, each task under its name, cut to 5."""
  made = {}
  for name in names:
    section = data(folder, name, count)
    del section["tokenizer"]
    made[name[:5]] = {"task": name, **section}
  return made


def tokenizer(folder):
  small.tokenizer().save(folder / "vocabulary")
  return str(folder / "vocabulary")


def changed(config, changes):
  """Sets keys of a config; `a__b=x` sets the key a.b."""
  for key, value in changes.items():
    *sections, last = key.split("__")
    section = config
    for part in sections:
      section = section.setdefault(part, {})
    section[last] = value
  return config


def recipe(folder, name="classification", **changes):
  """A recipe's config, with changed keys."""
  config = {
    "task": name,
    "steps": 3,
    "batch_size": 4,
    "model": dict(MODEL),
    "data": data(folder, name),
    "optimizer": {"name": "adamw", "learning_rate": 1e-2},
    "evaluation": {"every": 0, "examples": 0},
    "checkpoint": {"every": 0, "keep": 1},
    "logging": {"every": 1},
  }
  return changed(config, changes)


def train(config, workdir):
  """The measures of a run, and what it said."""
  said = io.StringIO()
  with contextlib.redirect_stderr(said):
    values = run.train_recipe(Recipe.from_dict(config), workdir)
  return values, said.getvalue()

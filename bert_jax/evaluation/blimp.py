"""BLiMP: whether a model finds the grammatical sentence of a pair likelier.

Warstadt et al. (2020), "BLiMP: The Benchmark of Linguistic Minimal Pairs for
English", https://github.com/alexwarstadt/blimp: 67 sets of 1,000 pairs, each a
file `SET.jsonl`.
"""

import collections
import dataclasses
import io
import json
import pathlib
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np
from jaxtyping import Float

from bert_jax.evaluation import page
from bert_jax.evaluation.evaluate import ANSWERS_FILE, METRICS_FILE, PAGE_FILE
from bert_jax.evaluation.ngrams import NgramModel
from bert_jax.predictor import Predictor
from bert_jax.settings import UserError
from bert_jax.storage import folders, paths
from bert_jax.tasks.targets.target import json_line
from bert_jax.tasks.targets.view import View, worst

_SUFFIX = ".jsonl"
_FIELDS = {
  "set": "UID",
  "field": "field",
  "term": "linguistics_term",
  "good": "sentence_good",
  "bad": "sentence_bad",
}

Scores = Float[np.ndarray, "pairs 2"]
"""Of the good and the bad sentence of each pair."""


@dataclasses.dataclass(frozen=True)
class Pair:
  """A minimal pair.

  Attributes:
    set: the name of its set, such as `adjunct_island`.
    field: syntax, morphology, semantics or syntax_semantics.
    term: the linguistic term, such as `island_effects`.
    good: the acceptable sentence.
    bad: the unacceptable one.
  """

  set: str
  field: str
  term: str
  good: str
  bad: str


def read(where: paths.Path, limit: int | None = None) -> list[Pair]:
  """Reads the pairs.

  Args:
    where: a folder with files `*.jsonl`, in folders of it or not, or a zip of
      one, such as BLiMP.zip.
    limit: the first pairs of each file that are read; None for all.

  Raises:
    UserError: there are no such files, or a line is no pair.
  """
  given = paths.local(where)
  found: list[Pair] = []
  for name, file in _files(given):
    lines = (line for line in enumerate(file, 1) if line[1].strip())
    for count, (number, line) in enumerate(lines):
      if count == limit:
        break
      found.append(_pair(line, f"{name}:{number}"))
  if not found:
    raise UserError(
      f"{where}: expected a folder or a zip with the files of BLiMP,"
      f" *{_SUFFIX}; found none"
    )
  return found


def _files(where: pathlib.Path) -> Iterator[tuple[str, IO[str]]]:
  if where.is_dir():
    for path in sorted(where.rglob(f"*{_SUFFIX}")):
      with path.open(encoding="utf-8") as file:
        yield str(path), file
    return
  try:
    with zipfile.ZipFile(where) as archive:
      # Others are what macOS says of the files.
      names = (x for x in archive.namelist() if not x.startswith("__MACOSX/"))
      for name in sorted(x for x in names if x.endswith(_SUFFIX)):
        with archive.open(name) as file:
          yield f"{where}/{name}", io.TextIOWrapper(file, "utf-8")
  except (OSError, zipfile.BadZipFile, RuntimeError) as error:
    raise UserError(f"{where}: cannot be read: {error}") from error


def _pair(line: str, where: str) -> Pair:
  try:
    record = json.loads(line)
    values = {name: record[key] for name, key in _FIELDS.items()}
  except (ValueError, KeyError, TypeError, RecursionError):
    values = {}
  if not values or not all(isinstance(x, str) for x in values.values()):
    raise UserError(
      f"{where}: expected a JSON object with the texts"
      f" {', '.join(_FIELDS.values())}"
    )
  # One of the sets has it with a slash.
  values["field"] = values["field"].replace("/", "_")
  return Pair(**values)


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
  """The scores of all sentences, by the model and by the floors.

  Attributes:
    pairs: the pairs.
    scores: the model's pseudo-log-likelihoods.
    floors: the scores of other ways by name; `chance` is not among them.
    steps: of several checkpoints of the run, their scores by step.
  """

  pairs: Sequence[Pair]
  scores: Scores
  floors: Mapping[str, Scores]
  steps: Mapping[int, Scores] = dataclasses.field(default_factory=dict)

  @property
  def metrics(self) -> dict[str, float]:
    """The accuracy over all pairs, and over those of each field."""
    correct = accuracies(self.scores)
    by_field = self._means("field", correct)
    named = {f"accuracy_{name}": x for name, x in by_field.items()}
    return {"accuracy": float(correct.mean()), **named}

  @property
  def baselines(self) -> dict[str, float]:
    """The accuracies of the floors, and of chance."""
    found = {"accuracy_chance_baseline": 0.5}
    for name, scores in self.floors.items():
      mean = float(accuracies(scores).mean())
      found[f"accuracy_{name}_baseline"] = mean
    return found

  @property
  def tables(self) -> dict[str, dict[str, dict[str, float]]]:
    """Accuracies by field, term and set, and by training step if there are."""
    columns = {
      "accuracy": accuracies(self.scores),
      **{name: accuracies(x) for name, x in self.floors.items()},
    }
    tables = {}
    for title in ("field", "term", "set"):
      counts = collections.Counter(getattr(pair, title) for pair in self.pairs)
      means = {name: self._means(title, x) for name, x in columns.items()}
      tables[title] = {
        row: {
          "pairs": counts[row],
          **{name: x[row] for name, x in means.items()},
        }
        for row in sorted(counts)
      }
    if self.steps:
      tables["step"] = {
        str(step): {
          "accuracy": float(accuracies(scores).mean()),
          **self._means("field", accuracies(scores)),
        }
        for step, scores in sorted(self.steps.items())
      }
    return tables

  def _means(self, title: str, correct: np.ndarray) -> dict[str, float]:
    """The means over the pairs with the same attribute."""
    groups: dict[str, list[float]] = {}
    for pair, value in zip(self.pairs, correct.tolist()):
      groups.setdefault(getattr(pair, title), []).append(value)
    return {name: float(np.mean(x)) for name, x in sorted(groups.items())}


def accuracies(scores: Scores) -> Float[np.ndarray, " pairs"]:
  """1 where the good sentence has the greater score, 0.5 where none has."""
  good, bad = scores.T
  return (good > bad) + 0.5 * (good == bad)


def evaluate(
  models: Mapping[int | None, Callable[[], Predictor]],
  pairs: Sequence[Pair],
  texts: Iterable[str] | None = None,
  order: int = 3,
  **options: Any,
) -> Result:
  """Scores all sentences.

  Args:
    models: what opens each checkpoint of a model, by its step; the last is the
      one whose tables are wanted. A single one may have no step, None.
    pairs: from `read`.
    texts: to train an n-gram model on, as a floor; None for none. Its tokens
      are those of the model.
    order: of the n-gram model.
    **options: of `Predictor.score`.

  Raises:
    UserError: a model has no masked-LM head.
  """
  sentences = [text for pair in pairs for text in (pair.good, pair.bad)]
  by_step: dict[int | None, Scores] = {}
  for step, open_model in models.items():
    model = open_model()
    found = model.score(sentences, **options)
    by_step[step] = _pairwise([score.score for score in found])
  pieces = model.tokenizer.encode_pieces
  tokens = pieces(sentences)
  # The shorter one is likelier, all else being equal.
  floors = {"length": _pairwise([-len(x) for x in tokens])}
  if texts is not None:
    ngrams = NgramModel.train((pieces([text])[0] for text in texts), order)
    floors[f"{order}-gram"] = _pairwise([ngrams.score(x) for x in tokens])
  steps = {step: x for step, x in by_step.items() if step is not None}
  return Result(pairs, by_step[step], floors, steps)


def _pairwise(values: Sequence[float]) -> Scores:
  return np.reshape(np.array(values, np.float64), (-1, 2))


def write(
  result: Result, folder: paths.Path, model: str, facts: Mapping[str, Any]
) -> list[Any]:
  """Writes metrics, scores and a page, as `evaluate.write`.

  Args:
    result: of the model.
    folder: here or in an object store; made if it is not there; files of an
      earlier evaluation are replaced.
    model: its name.
    facts: what else the files say of the evaluation, such as its data.

  Returns:
    The paths of `evaluation.json`, `evaluation.html` and `predictions.jsonl`,
    each pair with the scores of its two sentences.

  Raises:
    OSError: a file cannot be written.
  """
  scores = result.scores.tolist()
  answers = [
    {**dataclasses.asdict(pair), "scores": {"good": good, "bad": bad}}
    for pair, (good, bad) in zip(result.pairs, scores)
  ]
  mistakes = worst(
    (bad - good, {"set": x.set, "good": x.good, "bad": x.bad})
    for x, (good, bad) in zip(result.pairs, scores)
    if bad > good
  )
  about = {"pairs": len(result.pairs), **facts}
  contents = {
    "model": model,
    "benchmark": "blimp",
    **about,
    "metrics": result.metrics,
    "baselines": result.baselines,
    "tables": result.tables,
  }
  files = {
    METRICS_FILE: json.dumps(contents, indent=2) + "\n",
    PAGE_FILE: page.render(
      f"{model}: BLiMP",
      about,
      result.metrics,
      result.baselines,
      View(result.tables, mistakes=mistakes),
    ),
    ANSWERS_FILE: "".join(json_line(x) + "\n" for x in answers),
  }
  with paths.staged_folder(folder) as here:
    here.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
      folders.write_text(here / name, text)
  return [paths.as_path(folder) / name for name in files]

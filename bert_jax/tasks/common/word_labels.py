"""Labels of a text's words: what tagging and dialogue have in common.

The targets of a row, one for each of its tokens; all are 0 but on the first
pieces of the words that the row is the one to answer for:

  word_weights: float32, 1.
  starts, ends: int32, as in `Word`.
  labels: int32, of the gold tag.
  label_weights: float32, 1 where the record has gold tags.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Array, Float, Shaped
from scipy import special

from bert_jax.data import grouping
from bert_jax.data.sources.labelled import Record
from bert_jax.settings import UserError
from bert_jax.tasks import supervised
from bert_jax.tasks.common import fields, rows, words
from bert_jax.tasks.scores import entities as scores
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch

OUTSIDE = "O"
"""The label of words outside all entities."""

_DTYPES = {
  "word_weights": np.float32,
  "starts": np.int32,
  "ends": np.int32,
  "labels": np.int32,
  "label_weights": np.float32,
}
AXES = grouping.Axes(per_token=frozenset(_DTYPES))
"""How these targets are padded."""


@dataclasses.dataclass(frozen=True)
class Word:
  """A word and its label.

  Attributes:
    word: as it is in the text.
    start: its first character in the text; of given words, its index.
    end: one past the last.
    label: the likeliest for its first piece; `O` for a given word that has
      no pieces, such as one of control characters.
    probability: the model's for that label, from 0 to 1; 0 without pieces.
  """

  word: str
  start: int
  end: int
  label: str
  probability: float


@dataclasses.dataclass(frozen=True)
class Entity:
  """Words that belong together.

  Attributes:
    text: the words, as they are in the text.
    start: the first character in the text; of given words, the first index.
    end: one past the last.
    label: without its prefix, such as `B-`.
    probability: the mean over the words.
  """

  text: str
  start: int
  end: int
  label: str
  probability: float


def blank_targets(length: int = 4) -> dict[str, np.ndarray]:
  """The targets of a row without words."""
  return {name: np.zeros(length, dtype) for name, dtype in _DTYPES.items()}


def tags(record: Record) -> list[str]:
  """The gold tags of a record, a name for each of its words.

  Raises:
    UserError: they are not, or are of no known type.
  """
  given, found = fields.texts(record, "words"), record["tags"]
  if not isinstance(found, list | tuple):
    raise UserError(f"tags: expected a list of names, got {found!r:.80}")
  if len(found) != len(given):
    raise UserError(
      f"tags: expected one for each of {len(given)} words, got {len(found)}"
    )
  return [fields.label(tag) for tag in found]


def names(
  given: Sequence[str], pretrained: Sequence[str], found: Sequence[str]
) -> tuple[str, ...]:
  """As `supervised.labels`, but of found ones `O` is first."""
  ordered = supervised.labels(given, pretrained, found)
  if ordered in (tuple(given), tuple(pretrained)):
    return ordered
  return tuple(sorted(ordered, key=lambda name: name != OUTSIDE))


def prepare(
  tokenizer: Tokenizer | None,
  max_length: int,
  labels: Sequence[str],
  record: Record,
) -> list[Batch]:
  """A text, in windows where it is longer than the longest row.

  Args:
    tokenizer: the tokenizer that the model was trained with.
    max_length: the longest row.
    labels: their names.
    record: `text`, or instead `words`, a list of texts; then maybe the gold
      `tags`, a name for each.

  Raises:
    UserError: both fields are missing, or one is something else, a tag is
      unknown, or there is no vocabulary.
  """
  tokenizer = fields.need_tokenizer(tokenizer)
  if "words" in record or "tags" in record:
    given = fields.texts(record, "words")
    encoding = tokenizer.encode(" ".join(given))
    found = words.locate(given, encoding, tokenizer)
  else:
    text = fields.text(record, "text")
    encoding = tokenizer.encode(text)
    found = words.find(text, encoding, tokenizer)
  whole = blank_targets(len(encoding.ids))
  firsts = [word.piece for word in found]
  whole["word_weights"][firsts] = 1
  whole["starts"][firsts] = [word.start for word in found]
  whole["ends"][firsts] = [word.end for word in found]
  if "tags" in record:
    ids = [fields.index("tags", tag, labels) for tag in tags(record)]
    whole["labels"][firsts] = [ids[word.start] for word in found]
    whole["label_weights"][firsts] = 1
  examples = []
  for cut in rows.windowed(encoding, tokenizer.special, max_length):
    targets = {name: _of_window(column, cut) for name, column in whole.items()}
    examples.append(rows.example(cut.encoding, targets))
  return examples


def _of_window(
  column: Shaped[np.ndarray, "length"], cut: rows.Cut
) -> Shaped[np.ndarray, "row"]:
  """The part of targets that a window is the one to answer for."""
  own = range(cut.own.start + cut.shift, cut.own.stop + cut.shift)
  part = np.zeros(len(cut.encoding.ids), column.dtype)
  part[cut.own.start : cut.own.stop] = column[own.start : own.stop]
  return part


def read(
  labels: Sequence[str],
  logits: Float[Array, "batch length labels"],
  batch: Batch,
  records: Sequence[Record],
) -> list[list[Word]]:
  """The words that each row answers for, with their likeliest labels.

  Args:
    labels: their names.
    logits: the model's.
    batch: what they are for.
    records: of its rows.
  """
  targets = batch.targets
  answers = []
  for row, (record, scored) in enumerate(zip(records, np.asarray(logits))):
    used = np.flatnonzero(targets["word_weights"][row])
    places = (targets[name][row, used].tolist() for name in ("starts", "ends"))
    answers.append(
      [
        Word(_text(record, start, end), start, end, labels[label], probability)
        for start, end, label, probability in zip(
          *places, *likeliest(scored[used])
        )
      ]
    )
  return answers


def likeliest(
  logits: Float[Array, "rows classes"],
) -> tuple[list[int], list[float]]:
  """The likeliest class of each row, and its probability."""
  # With SciPy, for JAX would compile anew for each number of rows.
  logits = np.asarray(logits)
  probabilities = special.softmax(logits, axis=-1).max(-1)
  return logits.argmax(-1).tolist(), probabilities.tolist()


def join(record: Record, windows: Iterable[Sequence[Word]]) -> list[Word]:
  """All words of a record, of given ones those without pieces too.

  Args:
    record: what they are of.
    windows: the words of each of its rows.
  """
  found = list(itertools.chain.from_iterable(windows))
  if "words" not in record:
    return found
  by_index = {word.start: word for word in found}
  return [
    by_index.get(index) or Word(word, index, index + 1, OUTSIDE, 0.0)
    for index, word in enumerate(record["words"])
  ]


def entities(record: Record, tagged: Sequence[Word]) -> list[Entity]:
  """The entities that labelled words make, as they are counted in scores.

  Of IOB2 labels these are those of Transformers' pipeline with the
  aggregation `first`.

  Args:
    record: what the words are of.
    tagged: all its words.
  """
  made = []
  for span in scores.spans([word.label for word in tagged]):
    group = tagged[span.start : span.end]
    start, end = group[0].start, group[-1].end
    probability = sum(word.probability for word in group) / len(group)
    text = _text(record, start, end)
    made.append(Entity(text, start, end, span.label, probability))
  return made


def _text(record: Record, start: int, end: int) -> str:
  if "words" in record:
    return " ".join(record["words"][start:end])
  return record["text"][start:end]

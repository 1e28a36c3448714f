"""A label for each word of a text: entities, slots, parts of speech."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from jaxtyping import Bool, Float, Int

from bert_jax.batch import Array, Batch
from bert_jax.data.records import Splits
from bert_jax.data.sources.labelled import Record
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.tasks.inputs import fields
from bert_jax.tasks.inputs.rows import PREFIX, Row
from bert_jax.tasks.inputs.words import source_text
from bert_jax.tasks.metrics import entities as metrics
from bert_jax.tasks.metrics import labels as label_metrics
from bert_jax.tasks.metrics.entities import OUTSIDE
from bert_jax.tasks.targets import losses, numeric, view
from bert_jax.tasks.targets.labels import LabelledTarget
from bert_jax.tasks.targets.target import (
  Arrays,
  Means,
  Metrics,
  Records,
  Vocabulary,
)
from bert_jax.tasks.targets.view import Confusion, View

Logits = Float[Array, "batch length labels"]


@dataclasses.dataclass(frozen=True)
class Word:
  """A word and its label.

  Attributes:
    word: its text.
    start: its first character in the text; of given words, its index.
    end: one past the last.
    label: the most probable one for its first token; `O` for a given word
      without tokens, such as one of control characters.
    probability: the model's for that label, from 0 to 1; 0 without tokens.
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
    text: their text.
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


class Labelled(NamedTuple):
  """The labels of a text's words.

  Attributes:
    starts: first characters, or indices of given words.
    ends: one past the last.
    labels: the ids of labels; -1 for a word without tokens, which is `O`.
    probabilities: of these labels.
  """

  starts: Int[np.ndarray, " words"]
  ends: Int[np.ndarray, " words"]
  labels: Int[np.ndarray, " words"]
  probabilities: Float[np.ndarray, " words"]


@dataclasses.dataclass(frozen=True)
class TokenLabels(LabelledTarget):
  """A label a word, at its first token; the gold field is `tags`.

  Needs `Words` as inputs. A text that is too long for a row is split into
  chunks. The arrays of a batch, one entry a token, are 0 except at the first
  tokens of the words that a row predicts:

    labels: int32, the id of the gold tag.
    weights: float32, 1.

  Predictions are `Labelled`. Besides `entities`, the attributes of
  `LabelledTarget`; `O` is the label of words outside all entities, and the
  first one of labels that are taken from the records.

  Attributes:
    entities: whether answers are entities and not words, by default.
  """

  entities: bool = False

  FIELDS: ClassVar = ("tags",)
  LISTS: ClassVar = ("tags",)
  ARRAYS: ClassVar = {"labels": (np.int32, "token")}
  WEIGHTS: ClassVar = "token"
  EVALUATION_OPTIONS: ClassVar = {"entities": False}
  ARCHITECTURE: ClassVar = "ForTokenClassification"
  EXITS: ClassVar = ("patience", "entropy")

  def head(self, config: EncoderConfig) -> Any:
    from bert_jax.models import heads  # Needs JAX.

    return heads.TokenHead(config, len(self.names), bias=True)

  def found(self, record: Record) -> Iterable[str]:
    """The gold tags of a record, one for each of its words."""
    given, found = fields.texts(record, "words"), record.get("tags")
    if not isinstance(found, list | tuple):
      raise UserError(f"tags: expected a list of names, got {found!r:.80}")
    if len(found) != len(given):
      raise UserError(
        f"tags: expected one for each of {len(given)} words, got {len(found)}"
      )
    return [fields.label(tag) for tag in found]

  def encode(
    self, record: Record, rows: Sequence[Row], training: bool = False
  ) -> list[Arrays]:
    gold, made = np.array(self.learned_ids(record, training)), []
    for row in rows:
      at = row.example.targets[f"{PREFIX}starts"]
      weights = row.example.targets[f"{PREFIX}word_weights"] * (gold[at] >= 0)
      labels = np.where(weights > 0, gold[at], 0).astype(np.int32)
      made.append({"labels": labels, "weights": weights})
    return made

  def fit(self, records: Splits, pretrained: Self | None) -> Self:
    """Labels, `O` first among those that are taken from the records."""
    fitted = super().fit(records, pretrained)
    known = pretrained.labels if pretrained else ()
    if fitted.labels in (self.labels, known):
      return fitted
    ordered = sorted(fitted.labels, key=lambda name: name != OUTSIDE)
    return dataclasses.replace(fitted, labels=tuple(ordered))

  def loss(self, outputs: Logits, arrays: Arrays, batch: Batch) -> Means:
    values = losses.cross_entropy(outputs, arrays["labels"])
    return {"loss": losses.mean(values, arrays["weights"])}

  def metrics(self, outputs: Logits, arrays: Arrays, batch: Batch) -> Means:
    return losses.accuracy(outputs, arrays["labels"], arrays["weights"])

  def predict(
    self, outputs: Logits, batch: Batch, records: Records, tokenizer: Vocabulary
  ) -> list[Labelled]:
    arrays = batch.targets
    used = np.asarray(_predicted(batch))
    places = [np.asarray(arrays[PREFIX + name]) for name in ("starts", "ends")]
    made = []
    for row, logits in enumerate(np.asarray(outputs)[: len(records)]):
      own = used[row]
      probabilities = numeric.softmax(logits[own])
      columns = (column[row, own] for column in places)
      ids = logits[own].argmax(-1)
      made.append(Labelled(*columns, ids, probabilities.max(-1)))
    return made

  def same_answers(
    self, outputs: Logits, others: Logits, batch: Batch, tolerance: float
  ) -> Array:
    """Whether all words that the row predicts have the same label."""
    del tolerance
    same = outputs.argmax(-1) == others.argmax(-1)
    return (same | ~_predicted(batch)).all(-1)

  def entropies(self, outputs: Logits, batch: Batch) -> Array:
    return (numeric.entropy(outputs) * _predicted(batch)).max(-1)

  def merge(self, record: Record, predictions: Sequence[Labelled]) -> Labelled:
    """All words of a record, given words without tokens too."""
    found = Labelled(*map(np.concatenate, zip(*predictions)))
    if record.get("words") is None:
      return found
    count = len(record["words"])
    index = np.arange(count)
    whole = Labelled(
      index,
      index + 1,
      np.full(count, -1),
      np.zeros(count, found.probabilities.dtype),
    )
    whole.labels[found.starts] = found.labels
    whole.probabilities[found.starts] = found.probabilities
    return whole

  def decode(
    self,
    record: Record,
    prediction: Labelled,
    tokenizer: Vocabulary,
    entities: bool | None = None,
  ) -> list[Word] | list[Entity]:
    """The words, or the entities that they make.

    Of IOB2 labels the entities are those of Transformers' pipeline with the
    aggregation strategy `first`.
    """
    if self.entities if entities is None else entities:
      return self._entities(record, prediction)
    return [
      Word(source_text(record, start, end), start, end, self._name(id), p)
      for start, end, id, p in zip(*(column.tolist() for column in prediction))
    ]

  def _name(self, id: int) -> str:
    return OUTSIDE if id < 0 else self.names[id]

  def _entities(self, record: Record, prediction: Labelled) -> list[Entity]:
    starts, ends, ids, probabilities = (x.tolist() for x in prediction)
    made = []
    for span in metrics.spans(ids, metrics.parse(self.names)):
      start, end = starts[span.start], ends[span.end - 1]
      of_words = probabilities[span.start : span.end]
      probability = sum(of_words) / len(of_words)
      text = source_text(record, start, end)
      made.append(Entity(text, start, end, span.label, probability))
    return made

  def _tags(
    self, records: Records, predictions: Sequence[Labelled]
  ) -> tuple[list[np.ndarray], list[np.ndarray], tuple[str, ...]]:
    """Gold and predicted ids, and the names of all ids.

    A word without tokens is `O` even where there is no such label, which then
    is a further one.
    """
    names = tuple(dict.fromkeys([*self.gold_names(records), OUTSIDE]))
    outside = names.index(OUTSIDE)
    predicted = [np.where(p.labels < 0, outside, p.labels) for p in predictions]
    gold = [np.array(self.ids(record, names)) for record in records]
    return gold, predicted, names

  def correct(
    self, records: Records, predictions: Sequence[Labelled]
  ) -> np.ndarray:
    gold, predicted, _ = self._tags(records, predictions)
    pairs = zip(gold, predicted, strict=True)
    return np.array([np.array_equal(g, p) for g, p in pairs], bool)

  def evaluate(
    self, records: Records, predictions: Sequence[Labelled]
  ) -> Metrics:
    """Precision, recall and F1 of entities, and the accuracy of words.

    See `metrics.entities.evaluate`. For labels that make no entities, such as
    parts of speech, use the accuracy.
    """
    found = metrics.evaluate(*self._tags(records, predictions))
    return {"f1": found["f1"], **found}

  def baselines(self, records: Records) -> Metrics:
    names = self.gold_names(records)
    gold = [id for record in records for id in self.ids(record, names)]
    return {"accuracy_majority_baseline": label_metrics.majority_share(gold)}

  def view(self, records: Records, predictions: Sequence[Labelled]) -> View:
    """Entities by type, tags by tag, and the texts with most errors."""
    gold, predicted, names = self._tags(records, predictions)
    parsed, mistakes = metrics.parse(names), []
    for record, right, got in zip(records, gold, predicted):
      spans = ({*metrics.spans(ids.tolist(), parsed)} for ids in (right, got))
      expected, found = spans
      missed, invented = expected - found, found - expected
      wrong = len(missed) + len(invented)
      if wrong:
        row: dict[str, Any] = {
          "text": " ".join(record["words"]),
          "missed": _named(record, missed),
          "wrongly found": _named(record, invented),
          "wrong": wrong,
        }
        mistakes.append((wrong, row))
    flat = np.concatenate(gold), np.concatenate(predicted)
    seen = {*range(len(self.names)), *np.concatenate(flat).tolist()}
    used = [id for id in range(len(names)) if id in seen]
    return View(
      {"entities": metrics.per_type(gold, predicted, names)},
      Confusion(
        [names[id] for id in used],
        label_metrics.confusion_matrix(*flat, len(used)),
      ),
      view.worst(mistakes),
    )


def _predicted(batch: Batch) -> Bool[Array, "batch length"]:
  """The first tokens of the words that a row predicts."""
  return batch.targets[f"{PREFIX}word_weights"] > 0


def _named(record: Record, spans: Iterable[metrics.Span]) -> str:
  ordered = sorted(spans, key=lambda span: span.start)
  return "; ".join(
    f"{span.label}: {' '.join(record['words'][span.start : span.end])}"
    for span in ordered
  )

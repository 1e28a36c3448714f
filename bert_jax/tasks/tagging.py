"""A label for each word of a text, such as the names in it.

The targets of a batch:

  labels: int32 [batch, length], of each word's first piece.
  label_weights: float32 [batch, length], 0 on all that is no first piece.
"""

import bisect
import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bert_jax.models import heads
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks import fields, losses, rows, words
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch, Mean, Record


@dataclasses.dataclass(frozen=True)
class Head:
  """What makes the head.

  Attributes:
    labels: the names of the labels; `O` is for words outside all entities.
  """

  labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")

  def __post_init__(self):
    if not self.labels:
      raise ValueError("labels: expected at least one, got none")


@dataclasses.dataclass(frozen=True)
class Word:
  """A word and its label.

  Attributes:
    word: as it is in the text.
    start: its first character in the text; of given words, its index.
    end: one past the last.
    label: the likeliest for its first piece.
    probability: the model's for that label, from 0 to 1.
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
    label: without `B-` and `I-`.
    probability: the mean over the words.
  """

  text: str
  start: int
  end: int
  label: str
  probability: float


def make(
  config: EncoderConfig,
  tokenizer: Tokenizer | None,
  head: Head = Head(),
  data: None = None,
  seed: int = 0,
) -> Task:
  """Makes the task.

  Args:
    config: the encoder's.
    tokenizer: None where only ids go in.
    head: the labels.
    data: there is no way to train it yet.
    seed: not used.
  """
  del data, seed
  return Task(
    name="tagging",
    config=config,
    tokenizer=tokenizer,
    model=heads.TokenClassifier(config, len(head.labels)),
    blank=rows.blank(
      {
        "labels": np.zeros(4, np.int32),
        "label_weights": np.zeros(4, np.float32),
      }
    ),
    loss=loss,
    metrics=metrics,
    prepare=functools.partial(prepare, tokenizer, rows.max_length(config)),
    answer=functools.partial(answer, head),
    join=join,
    head=head,
  )


def prepare(
  tokenizer: Tokenizer | None, max_length: int, record: Record
) -> list[Batch]:
  """A text, in windows where it is longer than the longest row.

  Args:
    tokenizer: the tokenizer that the model was trained with.
    max_length: the longest row.
    record: `text`, or instead `words`, a list of texts.

  Returns:
    Unbatched examples; their targets tell of each word that the window is
    the one to answer for `positions`, that of the first piece in the row,
    `starts` and `ends` as in `Word`, all int32 [words], and `word_weights`,
    float32 [words], 0 where a place only pads.

  Raises:
    UserError: both fields are missing, or one is something else, or there is
      no vocabulary.
  """
  tokenizer = fields.need_tokenizer(tokenizer)
  if "words" in record:
    given = fields.texts(record, "words")
    text = " ".join(given)
  else:
    given, text = None, fields.text(record, "text")
  encoding = tokenizer.encode(text)
  if given is None:
    found = words.find(text, encoding, tokenizer)
  else:
    found = words.locate(given, encoding, tokenizer)
  firsts = [word.piece for word in found]
  examples = []
  for cut in rows.windowed(encoding, tokenizer.special, max_length):
    own = found[
      bisect.bisect_left(
        firsts, cut.own.start + cut.shift
      ) : bisect.bisect_left(firsts, cut.own.stop + cut.shift)
    ]
    columns = np.array(own, np.int32).reshape(-1, 3).T
    targets = {
      "positions": columns[0] - cut.shift,
      "starts": columns[1],
      "ends": columns[2],
      "word_weights": np.ones(len(own), np.float32),
    }
    examples.append(rows.example(cut.encoding, targets))
  return examples


class _Tagged(NamedTuple):
  """What a window answers, yet to be joined."""

  record: Record
  words: list[Word]
  entities: bool


def answer(
  head: Head,
  outputs: Float[Array, "batch length labels"],
  batch: Batch,
  records: Sequence[Record],
  entities: bool = False,
) -> Sequence[_Tagged]:
  """For each row its words, which `join` makes one answer of.

  Args:
    head: the labels.
    outputs: the model's.
    batch: what they are for.
    records: of its rows.
    entities: whether words that belong together are to be joined, and those
      labelled `O` left out.
  """
  targets = batch.targets
  logits = jnp.take_along_axis(
    outputs, jnp.asarray(targets["positions"])[..., None], axis=1
  )
  probabilities = jax.nn.softmax(logits, axis=-1)
  columns = [
    np.asarray(column)
    for column in (
      targets["starts"],
      targets["ends"],
      logits.argmax(-1),
      probabilities.max(-1),
    )
  ]
  used = np.asarray(targets["word_weights"]) > 0
  return [
    _Tagged(
      record,
      [
        Word(_text(record, start, end), start, end, head.labels[label], p)
        for start, end, label, p in zip(
          *(column[row, used[row]].tolist() for column in columns)
        )
      ],
      entities,
    )
    for row, record in enumerate(records)
  ]


def _text(record: Record, start: int, end: int) -> str:
  if "words" in record:
    return " ".join(record["words"][start:end])
  return record["text"][start:end]


def join(answers: Sequence[_Tagged]) -> list[Word] | list[Entity]:
  """The words of all windows, or the entities that they make.

  Adjoining words of one entity are joined, unless a label begins with `B-`:
  the aggregation `first` of Transformers' pipeline.
  """
  found = list(itertools.chain.from_iterable(a.words for a in answers))
  if not answers[0].entities:
    return found
  groups: list[list[Word]] = []
  for word in found:
    begins, name = _tag(word.label)
    if groups and not begins and name == _tag(groups[-1][0].label)[1]:
      groups[-1].append(word)
    else:
      groups.append([word])
  return [
    Entity(
      text=_text(answers[0].record, group[0].start, group[-1].end),
      start=group[0].start,
      end=group[-1].end,
      label=_tag(group[0].label)[1],
      probability=sum(word.probability for word in group) / len(group),
    )
    for group in groups
    if group[0].label != "O"
  ]


def _tag(label: str) -> tuple[bool, str]:
  """Whether a label begins an entity, and of which kind."""
  prefix, dash, name = label.partition("-")
  return (prefix == "B", name) if dash and prefix in "BI" else (False, label)


def loss(
  outputs: Float[Array, "batch length labels"], batch: Batch
) -> dict[str, Mean]:
  """Cross-entropy of the words' labels, in nats."""
  targets = batch.targets
  values = losses.cross_entropy(outputs, targets["labels"])
  return {"tagging_loss": losses.mean(values, targets["label_weights"])}


def metrics(
  outputs: Float[Array, "batch length labels"], batch: Batch
) -> dict[str, Mean]:
  """The share of words whose label is right."""
  targets = batch.targets
  right = outputs.argmax(-1) == targets["labels"]
  return {"accuracy": losses.mean(right, targets["label_weights"])}

"""The part of a text that answers a question, as in SQuAD.

The targets of a batch:

  start_positions: int32 [batch], the answer's first token in the row; where
    there is no answer, 0. One outside the row counts nothing.
  end_positions: int32 [batch], the answer's last token.
  position_weights: float32 [batch], 0 where a row counts nothing.

What a window is to learn is what google-research/bert's run_squad.py and
Transformers' run_qa.py have it learn: the first of the gold answers, widened
to whole tokens, if the window has all of it, and else `[CLS]`. Each window
counts the same.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bert_jax.data import grouping
from bert_jax.data.sources.labelled import Record
from bert_jax.models import heads
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks import supervised
from bert_jax.tasks.common import contexts, extraction, losses, rows
from bert_jax.tasks.common.contexts import prepare
from bert_jax.tasks.common.extraction import Answer
from bert_jax.tasks.scores import answers as scores
from bert_jax.tasks.supervised import load_tokenizer
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch, Mean

__all__ = ["Answer", "Data", "Head", "load_tokenizer", "make", "prepare"]

FIELDS = supervised.Fields(
  ("id", "question", "context", "answers"), optional=("id",)
)

# What a training example keeps of its targets; the others are for `answer`.
_LEARNED = ("start_positions", "end_positions", "position_weights")
_AXES = grouping.Axes(per_token=frozenset({"starts", "ends", "in_context"}))
# As run_squad.py and run_qa.py choose the answers that are to be scored.
_SCORING = {"top_k": 20, "max_answer_length": 30, "align_to_words": False}


@dataclasses.dataclass(frozen=True)
class Head:
  """How a long context is cut, and when to say that there is no answer.

  Attributes:
    max_length: the longest window, question and special tokens included, if
      the encoder takes it.
    stride: tokens that a window shares with the one before, as Transformers
      has it; at most half of what a window sees of the context.
    max_question: tokens that a longer question is cut to, in training and in
      prediction.
    null_answers: whether it was trained with questions without answers, as
      those of SQuAD 2.0.
    null_threshold: by how much the logits for no answer must be greater than
      those of the best answer to be believed; tuned on held-out questions.
  """

  max_length: int = 384
  stride: int = 128
  max_question: int = contexts.MAX_QUESTION
  null_answers: bool = False
  null_threshold: float = 0.0

  def __post_init__(self):
    _check_windows(self)
    if not math.isfinite(self.null_threshold):
      raise ValueError(
        f"null_threshold: expected a finite number, got {self.null_threshold}"
      )


@dataclasses.dataclass(frozen=True)
class Data(supervised.Data):
  """The section `config.data`: SQuAD's JSON, or records of the same fields.

  These are `question`, `context`, `answers`, and maybe `id`. Besides these,
  the fields of `supervised.Data`.

  Attributes:
    max_length: the longest window, question and special tokens included.
    stride: tokens that a window shares with the one before.
    max_question: tokens that a longer question is cut to.
  """

  max_length: int = 384
  stride: int = 128
  max_question: int = contexts.MAX_QUESTION

  def __post_init__(self):
    super().__post_init__()
    _check_windows(self)


def _check_windows(of: Head | Data) -> None:
  for name, least in (("max_length", 1), ("stride", 0), ("max_question", 1)):
    if getattr(of, name) < least:
      raise ValueError(
        f"{name}: expected at least {least}, got {getattr(of, name)}"
      )


def make(
  config: EncoderConfig,
  tokenizer: Tokenizer | None,
  head: Head | None = None,
  data: Data | None = None,
  seed: int = 0,
) -> Task:
  """Makes the task.

  Args:
    config: the encoder's.
    tokenizer: None where only ids go in.
    head: how a long context is cut; with data, that of the head to go on
      from.
    data: what to learn from; None to predict only.
    seed: not used.

  Raises:
    UserError: the data cannot be read, or are not for this task.
  """
  del seed
  labelled = data and supervised.read(data, FIELDS)
  head = head or Head()
  if labelled:
    head = dataclasses.replace(
      head,
      max_length=rows.max_length(config, data.max_length),
      stride=data.stride,
      max_question=data.max_question,
      null_answers=head.null_answers or not all(labelled.values("answers")),
    )
  longest = rows.max_length(config, head.max_length)
  task = Task(
    name="question_answering",
    config=config,
    tokenizer=tokenizer,
    model=heads.TokenClassifier(config, 2),
    blank=rows.blank(
      {
        "start_positions": np.zeros((), np.int32),
        "end_positions": np.zeros((), np.int32),
        "position_weights": np.zeros((), np.float32),
      }
    ),
    loss=loss,
    metrics=metrics,
    prepare=functools.partial(
      prepare,
      tokenizer,
      longest,
      head.stride,
      max_question=head.max_question,
    ),
    answer=functools.partial(
      extraction.answer, tokenizer, head.null_answers, head.null_threshold
    ),
    join=extraction.join,
    axes=_AXES,
    score=score,
    baselines=baselines,
    scoring=_SCORING,
    tune=functools.partial(tune, head) if head.null_answers else None,
    head=head,
  )
  return supervised.with_data(task, data, labelled, longest, _of_loss)


def _of_loss(record: Record, example: Batch) -> Batch:
  """The example with no more targets than those of the loss."""
  del record
  targets = {name: example.targets[name] for name in _LEARNED}
  return dataclasses.replace(example, targets=targets)


def loss(
  outputs: Float[Array, "batch length 2"], batch: Batch
) -> dict[str, Mean]:
  """Half the cross-entropy of the start, and of the end, in nats.

  As `BertForQuestionAnswering` of Transformers, but padding takes no
  probability, so that it does not matter how much there is.
  """
  means = {}
  for name, logits, labels, weights in _both(outputs, batch):
    values = 0.5 * losses.cross_entropy(logits, labels)
    means[f"{name}_loss"] = losses.mean(values, weights)
  return means


def metrics(
  outputs: Float[Array, "batch length 2"], batch: Batch
) -> dict[str, Mean]:
  """The share of starts, and of ends, that the model gets right."""
  return {
    f"{name}_accuracy": losses.mean(logits.argmax(-1) == labels, weights)
    for name, logits, labels, weights in _both(outputs, batch)
  }


def _both(
  outputs: Float[Array, "batch length 2"], batch: Batch
) -> Iterator[tuple[str, Array, Array, Array]]:
  """Name, logits, labels and weights of starts and of ends."""
  used = batch.sequence_ids > 0
  last = outputs.shape[1] - 1
  for i, name in enumerate(("start", "end")):
    positions = batch.targets[f"{name}_positions"]
    labels = jnp.clip(positions, 0, last)
    inside = jnp.take_along_axis(used, labels[:, None], axis=1)[:, 0]
    inside &= labels == positions
    weights = batch.targets["position_weights"] * inside
    yield name, losses.only(used, outputs[..., i]), labels, weights


def score(
  head: Head, answers: Sequence[Sequence[Answer]], records: Sequence[Record]
) -> dict[str, float]:
  """Exact matches and F1, from 0 to 1; see `scores.answers.score`.

  Args:
    head: when to say that there is no answer.
    answers: at least two for each question if one of them may be that there
      is none.
    records: the questions, with gold answers.
  """
  given = [_gold(records), [extraction.first_text(found) for found in answers]]
  if head.null_answers:
    given += [extraction.null_scores(answers), head.null_threshold]
  found = scores.score(*given)
  return {"f1": found["f1"], **found}  # First, as what the task is known by.


def tune(
  head: Head, answers: Sequence[Sequence[Answer]], records: Sequence[Record]
) -> Head:
  """The head with the null threshold that has the best F1.

  As it is where all questions have an answer, or none has one: that tells
  nothing of a threshold.
  """
  gold = _gold(records)
  if all(gold) or not any(gold):
    return head
  best = [extraction.first_text(found) for found in answers]
  threshold = scores.tune_null_threshold(
    gold, best, extraction.null_scores(answers)
  )
  return dataclasses.replace(head, null_threshold=threshold)


def predictions(
  head: Head, answers: Sequence[Sequence[Answer]], records: Sequence[Record]
) -> dict[str, str]:
  """The answers as SQuAD's official scorers take them, for a JSON file.

  Args:
    head: when to say that there is no answer.
    answers: as for `score`.
    records: the questions; one without an `id` has its number, from 1.

  Returns:
    From the id of each question to its answer, empty for none.
  """
  texts = [extraction.first_text(found) for found in answers]
  if head.null_answers:
    texts = [
      "" if null > head.null_threshold else text
      for text, null in zip(texts, extraction.null_scores(answers))
    ]
  ids = (str(r.get("id", n)) for n, r in enumerate(records, 1))
  return dict(zip(ids, texts))


def baselines(records: Sequence[Record]) -> dict[str, float]:
  """What always saying that there is no answer would score."""
  share = sum(not gold for gold in _gold(records)) / max(len(records), 1)
  return {
    "exact_majority_baseline": share,
    "f1_majority_baseline": share,
  }


def _gold(records: Sequence[Record]) -> list[list[str]]:
  return [[gold["text"] for gold in r["answers"]] for r in records]

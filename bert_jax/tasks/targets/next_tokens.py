"""A text that is written from a source, token after token.

The encoder is a prefix language model: the source attends to itself in both
directions, and each token of the target to the source and to the tokens before
it (UniLM: Dong et al. 2019, arXiv:1905.03197; s2s-ft: Bao et al. 2021,
arXiv:2110.13640). No parameters are added: the head is that of masked tokens.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from jaxtyping import Float

from bert_jax import settings
from bert_jax.batch import Array, Batch, map_arrays
from bert_jax.data.sources.labelled import Record
from bert_jax.models.config import EncoderConfig
from bert_jax.models.generation import GenerationConfig
from bert_jax.settings import UserError
from bert_jax.tasks.inputs import fields
from bert_jax.tasks.inputs.rows import Cut, Row
from bert_jax.tasks.metrics import labels as metrics
from bert_jax.tasks.metrics import texts
from bert_jax.tasks.targets import losses, view
from bert_jax.tasks.targets.target import (
  Arrays,
  Means,
  Metrics,
  Records,
  Target,
  Vocabulary,
)
from bert_jax.tasks.targets.view import View
from bert_jax.text.tokenizer import Tokenizer, mask_name

Logits = Float[Array, "batch predictions vocabulary"]

OBJECTIVES = ("causal", "masked")
POSITIONS = ("continued", "restarted")
# The key of `task_specific_params` in config.json.
_MARK = "bert_jax_generation"
# The most tokens of a target where the config does not say, if a row is long.
_LONGEST = 128


@dataclasses.dataclass(frozen=True)
class Text:
  """A text that a model wrote.

  Attributes:
    text: without special tokens.
    score: the log of its probability, in nats, over the length penalty of the
      search.
    finished: whether it ended before the longest length.
  """

  text: str
  score: float
  finished: bool = True


class Written(NamedTuple):
  """The texts that were written from one source, the best first.

  Attributes:
    texts: without special tokens.
    scores: see `Text`.
    finished: see `Text`.
  """

  texts: list[str]
  scores: list[float]
  finished: list[bool]


class Likelihood(NamedTuple):
  """How likely the gold text of one source is, token by token.

  Attributes:
    tokens: the number of its tokens, with the one that ends it.
    log_likelihood: the sum of the logs of their probabilities, in nats.
    right: the number of tokens that are the most probable ones.
  """

  tokens: float
  log_likelihood: float
  right: float


@dataclasses.dataclass(frozen=True)
class NextTokens(Target):
  """A text that is written from the inputs; its gold field is `target`.

  Needs `Source` as inputs, and extends their rows by the target's tokens at
  stages 1, 2 ..., the last of which is the separator, which ends the text. The
  arrays of a batch:

    positions: int32 [batch, predictions], the places in the row that predict.
    ids: int32 [batch, predictions], the tokens that they predict.
    weights: float32 [batch, predictions], 0 for unused slots.

  Predictions are `Written` texts; in evaluations while training, which write
  nothing, the `Likelihood` of the gold texts.

  Attributes:
    objective: where a token is predicted. With "causal" it is the place of the
      token before. With "masked" it is a mask at its own place, a copy that
      attends to what is before it and that no other token attends to, as in
      s2s-ft; rows are longer by these copies.
    max_target_length: the longest target in tokens, the end included, and as
      much of a row as sources leave free; longer ones are cut at their ends. 0
      is half of a row, at most 128.
    positions: of the target's tokens. "continued" counts on after the source,
      as UniLM does. "restarted" counts from 1, so that each token has the
      position of the source's token that it resembles, where both have one
      order, as in translation. An encoder needs two segments to tell them
      apart.
    label_smoothing: the share of the distribution to be learned that is
      uniform over the vocabulary (Szegedy et al. 2016, arXiv:1512.00567).
  """

  objective: str = "causal"
  max_target_length: int = 0
  positions: str = "continued"
  label_smoothing: float = 0.0

  FIELDS: ClassVar = ("target",)
  ARRAYS: ClassVar = {
    "positions": (np.int32, "slot"),
    "ids": (np.int32, "slot"),
  }
  WEIGHTS: ClassVar = "slot"
  HEAD: ClassVar = "masked_lm"
  UNIVERSAL: ClassVar = True
  WRITES: ClassVar = True
  AVERAGES: ClassVar = False
  ARCHITECTURE: ClassVar = "ForMaskedLM"

  def __post_init__(self):
    for name, known in (("objective", OBJECTIVES), ("positions", POSITIONS)):
      if (given := getattr(self, name)) not in known:
        raise ValueError(
          f"{name}: expected {' or '.join(known)}, got {given!r}"
        )
    if self.max_target_length < 0:
      raise ValueError(
        f"max_target_length: expected at least 0, got {self.max_target_length}"
      )
    if not 0 <= self.label_smoothing < 1:
      raise ValueError(
        "label_smoothing: expected at least 0 and less than 1, got"
        f" {self.label_smoothing}"
      )

  def head(self, config: EncoderConfig) -> Any:
    from bert_jax.models import heads  # Needs JAX.

    return heads.MaskedLanguageHead(config)

  def room(self, length: int) -> int:
    """The tokens of a target.

    Raises:
      UserError: they leave no room for a source.
    """
    wanted = self.max_target_length or min(length // 2, _LONGEST)
    if wanted > length - 3:
      raise UserError(
        f"max_target_length: {wanted} leaves no room for a source in rows of"
        f" {length} tokens"
      )
    return wanted

  def extend(
    self,
    record: Record,
    row: Row,
    room: int,
    tokenizer: Tokenizer,
    config: EncoderConfig,
  ) -> Row:
    """Adds the target's tokens, and with "masked" their masked copies."""
    del config
    (pieces,) = tokenizer.encode_pieces([fields.content(record, "target")])
    if not pieces:
      raise UserError("the field 'target' has no tokens; expected a text")
    cuts = row.cuts
    if len(pieces) >= room:
      cuts = (*cuts, Cut("target", len(pieces), room - 1))
      pieces = pieces[: room - 1]
    ids = np.array([*pieces, tokenizer.special.sep], np.int32)
    source, count = row.example.token_ids.size, ids.size
    first = 1 if self.positions == "restarted" else source
    stages = np.arange(1, count + 1, dtype=np.int32)
    added = Batch(
      token_ids=ids,
      segment_ids=np.ones(count, np.int32),
      position_ids=first - 1 + stages,
      sequence_ids=np.ones(count, np.int32),
      stage_ids=stages,
    )
    parts = [
      dataclasses.replace(
        row.example, targets={}, stage_ids=np.zeros(source, np.int32)
      ),
      added,
    ]
    if self.objective == "masked":
      mask_name(tokenizer)  # Raises an error if there is none.
      masks = np.full(count, tokenizer.special.mask, np.int32)
      parts.append(
        dataclasses.replace(added, token_ids=masks, stage_ids=-stages)
      )
    joined = map_arrays(lambda _, *arrays: np.concatenate(arrays), *parts)
    example = dataclasses.replace(joined, targets=row.example.targets)
    return dataclasses.replace(row, example=example, cuts=cuts)

  def encode(
    self, record: Record, rows: Sequence[Row], training: bool = False
  ) -> list[Arrays]:
    del record, training
    return [self._arrays(row.example) for row in rows]

  def _arrays(self, example: Batch) -> Arrays:
    """The target's tokens, and the place that predicts each of them."""
    (places,) = np.nonzero(example.stage_ids > 0)
    shift = places.size if self.objective == "masked" else -1
    return {
      "positions": (places + shift).astype(np.int32),
      "ids": example.token_ids[places],
      "weights": np.ones(places.size, np.float32),
    }

  # Training.

  def loss(self, outputs: Logits, arrays: Arrays, batch: Batch) -> Means:
    """Cross-entropy of a token, in nats."""
    values = losses.cross_entropy(outputs, arrays["ids"])
    if self.label_smoothing:
      values = losses.smoothed(outputs, values, self.label_smoothing)
    return {"loss": losses.mean(values, arrays["weights"])}

  def teaches(self, student: Target) -> bool:
    """Whether rows have the same layout too."""
    return self.same_outputs(student) and all(
      getattr(self, name) == getattr(student, name)
      for name in ("objective", "positions")
    )

  def metrics(self, outputs: Logits, arrays: Arrays, batch: Batch) -> Means:
    found = losses.accuracy(outputs, arrays["ids"], arrays["weights"])
    return {"token_accuracy": found["accuracy"]}

  def measured(self, outputs: Logits, arrays: Arrays, batch: Batch) -> Any:
    """The numbers of `Likelihood`: the logits are too many to be moved."""
    ids, weights = arrays["ids"], arrays["weights"]
    values = -losses.cross_entropy(outputs, ids)
    return {
      "tokens": weights.sum(-1),
      "log_likelihood": (values * weights).sum(-1),
      "right": ((outputs.argmax(-1) == ids) * weights).sum(-1),
    }

  def corpus_baselines(self, arrays: Arrays) -> Metrics:
    """Of always giving the token that is most frequent in these arrays."""
    share = metrics.majority_share(arrays["ids"], arrays["weights"])
    return {"token_accuracy_unigram_baseline": share}

  # Prediction and evaluation.

  @property
  def options(self) -> frozenset[str]:
    return frozenset(x.name for x in dataclasses.fields(GenerationConfig))

  def predict(
    self,
    outputs: Mapping[str, Array],
    batch: Batch,
    records: Records,
    tokenizer: Vocabulary,
  ) -> list[Written] | list[Likelihood]:
    """What was written, or what `measured` returned, by row."""
    del batch
    columns = {name: np.asarray(x) for name, x in outputs.items()}
    if "log_likelihood" in columns:
      wanted = (columns[name].tolist() for name in Likelihood._fields)
      return [Likelihood(*row) for row in zip(*wanted)][: len(records)]
    found = []
    for row in range(len(records)):
      ids, lengths = columns["ids"][row], columns["lengths"][row]
      written = [
        tokenizer.detokenize(own[:length].tolist()).strip()
        for own, length in zip(ids, lengths)
      ]
      scores, is_short = columns["scores"][row], lengths < ids.shape[-1]
      found.append(Written(written, scores.tolist(), is_short.tolist()))
    return found

  def decode(
    self, record: Record, prediction: Written, tokenizer: Vocabulary
  ) -> list[Text]:
    """The texts, the best first."""
    del record, tokenizer
    return list(map(Text, *prediction))

  def lines(self, answer: list[Text]) -> list[str]:
    return [" ".join(text.text.split()) for text in answer]

  def evaluate(
    self, records: Records, predictions: Sequence[Written | Likelihood]
  ) -> Metrics:
    """Of written texts those of `metrics.texts.evaluate`.

    Of likelihoods `token_accuracy`, and the `perplexity` of a token.
    """
    if isinstance(predictions[0], Written):
      return texts.evaluate(*_pairs(records, predictions))
    tokens, total, right = np.sum(np.array(predictions, np.float64), 0)
    # Beyond this it is no number any more.
    mean = min(-total / tokens, 700.0)
    return {
      "token_accuracy": float(right / tokens),
      "perplexity": math.exp(mean),
    }

  def view(
    self, records: Records, predictions: Sequence[Written | Likelihood]
  ) -> View:
    """The worst and the best texts by chrF, and sacrebleu's signatures."""
    if not isinstance(predictions[0], Written):
      return View()
    gold, written = _pairs(records, predictions)
    rows = [
      {
        **_source(record),
        "gold": right,
        "written": text,
        "chrF": chrf,
        "log-probability": prediction.scores[0],
      }
      for record, prediction, right, text, chrf in zip(
        records, predictions, gold, written, texts.each_chrf(gold, written)
      )
    ]
    wrong = (
      row for row in rows if row["gold"].split() != row["written"].split()
    )
    return View(
      mistakes=view.worst((-row["chrF"], row) for row in wrong),
      best=view.worst((row["chrF"], row) for row in rows),
      facts=texts.signatures(),
    )

  # Published checkpoints.

  @classmethod
  def reads_huggingface(cls, config: Mapping[str, Any], where: str) -> bool:
    """A masked language model is one that writes only if it says so."""
    del where
    return _MARK in (config.get("task_specific_params") or {})

  @classmethod
  def from_huggingface(cls, config: Mapping[str, Any], where: str) -> Self:
    kept = (config.get("task_specific_params") or {}).get(_MARK, {})
    return settings.from_dict(cls, kept, f"{where}: task_specific_params")

  def to_huggingface(self) -> dict[str, Any]:
    return {"task_specific_params": {_MARK: dataclasses.asdict(self)}}


def _pairs(
  records: Records, predictions: Sequence[Written]
) -> tuple[list[str], list[str]]:
  """The gold text of each record, and the best that was written."""
  return (
    [record["target"] for record in records],
    [prediction.texts[0] for prediction in predictions],
  )


def _source(record: Record) -> dict[str, str]:
  turns = record.get("turns")
  if turns is None:
    return view.texts(record, "text")
  return {"turns": "\n".join(turns)}

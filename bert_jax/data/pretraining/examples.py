"""Pretraining examples, made on the fly from a tokenized corpus."""

import dataclasses
import math
import threading
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64

from bert_jax.batch import Batch, map_arrays
from bert_jax.data import counter_rng
from bert_jax.data.pretraining import (
  assembly,
  masking,
  packing,
  pairing,
  planning,
)
from bert_jax.data.stream import check_seed
from bert_jax.settings import UserError
from bert_jax.text.tokenizer import SpecialIds

# Batches and prefetched batches may contain examples of two epochs.
_EPOCHS_KEPT = 2

# Last integer of the keys of random numbers; the plan has key (seed, epoch).
_TRUNCATION, _MASKS, _PACKING = range(1, 4)


@dataclasses.dataclass(frozen=True)
class ExamplesConfig:
  """How documents become examples, and examples become rows.

  Attributes:
    max_length: tokens per row, special tokens and padding included.
    max_sequences: the maximum number of examples packed into a row; 1 disables
      packing. With 4, rows are nearly full unless documents are very short;
      the training log reports `packing_efficiency`.
    max_predictions: the maximum number of masked tokens of an example; about
      `mask_rate * max_length`.
    mask_rate: the fraction of tokens to mask, special tokens included in the
      count.
    mask_share: the fraction of masked tokens that are replaced by `[MASK]`.
    random_share: the fraction of masked tokens that are replaced by a random
      token; the rest are unchanged.
    whole_word: whether to mask whole words: all tokens of a word, and of a
      Chinese word if the corpus was prepared with `config.corpus.words`.
    next_sentence: whether examples are pairs for next-sentence prediction;
      else single segments of whole sentences.
    short_probability: the probability that a document is cut into sequences
      that are shorter than possible.
  """

  max_length: int = 128
  max_sequences: int = 1
  max_predictions: int = 20
  mask_rate: float = 0.15
  mask_share: float = 0.8
  random_share: float = 0.1
  whole_word: bool = False
  next_sentence: bool = True
  short_probability: float = 0.1

  def __post_init__(self):
    if not 5 <= self.max_length < 1 << 16:
      raise ValueError(
        f"max_length: expected 5 to 65535, got {self.max_length}"
      )
    for name in ("max_sequences", "max_predictions"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name}: expected at least 1, got {getattr(self, name)}"
        )
    for name in (
      "mask_rate",
      "mask_share",
      "random_share",
      "short_probability",
    ):
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(f"{name}: expected 0 to 1, got {getattr(self, name)}")
    if self.mask_share + self.random_share > 1 + 1e-9:
      raise ValueError(
        "random_share: with mask_share expected at most 1, got"
        f" {self.mask_share} + {self.random_share}"
      )

  @property
  def max_tokens(self) -> int:
    """Tokens per row without `[CLS]` and `[SEP]`."""
    return self.max_length - (3 if self.next_sentence else 2)

  @property
  def predictions(self) -> int:
    """Slots for masked tokens per row, enough for all of its examples.

    With a mask rate r, an example of n tokens has max(round(r n), 1) masked
    tokens: at most 1/2 more than r n, or 1 - r n in the shortest examples.
    """
    if self.max_sequences == 1:
      return self.max_predictions
    shortest = 1 + self.max_length - self.max_tokens + self.next_sentence
    examples = min(self.max_sequences, self.max_length // shortest)
    beyond = max(0.5, 1 - self.mask_rate * shortest)
    together = self.mask_rate * self.max_length + examples * beyond
    # The tolerance keeps rounding errors from losing a slot.
    return min(math.floor(together + 1e-6), examples * self.max_predictions)

  @property
  def shape(self) -> assembly.Shape:
    """The shape of a row."""
    return assembly.Shape(self.max_length, self.max_sequences, self.predictions)


@dataclasses.dataclass(frozen=True)
class _Epoch:
  """The examples of an epoch, and its rows; None without packing."""

  plan: planning.Plan
  rows: packing.Packing | None

  def __len__(self) -> int:
    """The number of rows."""
    if self.rows is None:
      return len(self.plan.tokens)
    return len(self.rows.starts) - 1

  def examples(
    self, rows: Int64[np.ndarray, "rows"]
  ) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
    """The examples of the given rows, and the index of the row of each."""
    if self.rows is None:
      return rows, np.arange(len(rows))
    begins = self.rows.starts[rows].astype(np.int64)
    counts = self.rows.starts[rows + 1] - begins
    row = np.repeat(np.arange(len(rows)), counts)
    places = begins[row] + counter_rng.index_in_group(counts)
    return self.rows.sequences[places].astype(np.int64), row


class PretrainingExamples:
  """The rows of each epoch, by random access.

  Row `index` of an epoch is a function of (seed, epoch, index) and the corpus.
  It holds one example, or up to `max_sequences` packed ones. Each example is
  in exactly one row of an epoch, and does not depend on packing. Rows without
  packing are in the order of the corpus; `stream.Stream` shuffles them.

  Objects are thread-safe. They are pickled without plans, so each process
  plans its own epochs. Per million examples, planning takes a second and 15
  MB, and packing another second and 6 MB. English Wikipedia has about 35
  million examples of length 128, or 12 million of length 512.
  """

  def __init__(
    self,
    corpus: planning.Corpus,
    special: SpecialIds,
    vocabulary_size: int,
    continuations: Bool[np.ndarray, "vocabulary"],
    config: ExamplesConfig,
    seed: int,
  ):
    """Creates the data set; examples are made on request.

    Random replacement ids are less than `vocabulary_size`; `continuations` is
    whether each id continues a word, for whole-word masking.

    Raises:
      UserError: the corpus is empty, or the seed is out of range.
    """
    if not len(corpus):
      raise UserError("config.data.corpus: the corpus has no documents")
    check_seed(seed)
    self._corpus = corpus
    self._special = special
    self._config = config
    self._seed = seed
    self._masking = masking.Masking(
      special,
      vocabulary_size,
      continuations if config.whole_word else None,
      config.max_predictions,
      config.mask_rate,
      config.mask_share,
      config.random_share,
    )
    self._reset()

  def _reset(self) -> None:
    self._epochs: dict[int, _Epoch] = {}
    self._lengths: dict[int, int] = {}
    self._lock = threading.Lock()

  def __getstate__(self) -> dict[str, object]:
    own = ("_epochs", "_lengths", "_lock")
    return {k: v for k, v in self.__dict__.items() if k not in own}

  def __setstate__(self, state: dict[str, object]) -> None:
    self.__dict__.update(state)
    self._reset()

  def epoch_length(self, epoch: int) -> int:
    """The number of rows of an epoch; epochs differ slightly."""
    if epoch not in self._lengths:
      self._epoch(epoch)
    return self._lengths[epoch]

  def example(self, epoch: int, index: int) -> Batch:
    """Row `index` of `epoch`, unbatched; see `batch`."""
    return map_arrays(lambda _, x: x[0], self.batch(epoch, [index]))

  def batch(self, epoch: int, indices: Sequence[int]) -> Batch:
    """Rows of `epoch`, as NumPy arrays.

    A row is `[CLS] A [SEP] B [SEP]`, or `[CLS] A [SEP]`, or a sequence of
    these if packed, padded to `max_length`; ids are int32. The targets are

      masked_lm/positions: int32 [rows, predictions], positions in the row.
      masked_lm/ids: int32 [rows, predictions], the original ids.
      masked_lm/weights: float32 [rows, predictions], 0 in unused slots.
      next_sentence/labels: int32 [rows, max_sequences], 0 for a true next
        sentence, 1 for a random one.
      next_sentence/weights: float32 [rows, max_sequences], 0 in unused slots.

    Raises:
      IndexError: the epoch has no such row.
      UserError: the corpus is damaged.
    """
    config, found = self._config, self._epoch(epoch)
    for index in indices:
      if not 0 <= index < len(found):
        raise IndexError(f"row {index} of {len(found)}")
    examples, row = found.examples(np.array(indices, np.int64))
    pairs = pairing.make_pairs(
      self._corpus,
      found.plan,
      examples,
      max_tokens=config.max_tokens,
      key=counter_rng.key(self._seed, epoch, _TRUNCATION),
    )
    sequences = assembly.join(pairs, self._special, config.next_sentence)
    masked = masking.mask(
      sequences.token_ids,
      sequences.lengths,
      examples,
      self._masking,
      counter_rng.key(self._seed, epoch, _MASKS),
      sequences.continues,
    )
    return assembly.lay(sequences, masked, row, config.shape, self._special.pad)

  def _epoch(self, epoch: int) -> _Epoch:
    with self._lock:
      if epoch not in self._epochs:
        # Drop the oldest epoch; readers hold a reference while they use it.
        while len(self._epochs) >= _EPOCHS_KEPT:
          del self._epochs[next(iter(self._epochs))]
        self._epochs[epoch] = self._make_epoch(epoch)
        self._lengths[epoch] = len(self._epochs[epoch])
      return self._epochs[epoch]

  def _make_epoch(self, epoch: int) -> _Epoch:
    config = self._config
    plan = planning.make_plan(
      self._corpus,
      max_tokens=config.max_tokens,
      short_probability=config.short_probability,
      pairs=config.next_sentence,
      seed=self._seed,
      epoch=epoch,
    )
    if config.max_sequences == 1:
      return _Epoch(plan, None)
    special = config.max_length - config.max_tokens
    rows = packing.pack(
      plan.tokens + np.uint16(special),
      config.max_length,
      config.max_sequences,
      np.random.default_rng([self._seed, epoch, _PACKING]),
    )
    return _Epoch(plan, rows)

"""Pretraining examples, made while training from a corpus of token ids."""

import dataclasses
import threading

import numpy as np
from jaxtyping import Bool

from bert_jax.data import masking, pairing
from bert_jax.settings import UserError
from bert_jax.text.tokenizer import SpecialIds
from bert_jax.types import Batch

# A batch may straddle two epochs, and so may the batches being prefetched.
_PLANS_KEPT = 2


@dataclasses.dataclass(frozen=True)
class ExamplesConfig:
  """How documents become examples.

  Attributes:
    length: tokens in a row, special tokens and padding included.
    max_predictions: the most masked tokens in a row; about `mask_rate` times
      the length.
    mask_rate: the share of tokens to mask, counting the special ones.
    mask_share: of those, the share shown as `[MASK]`.
    random_share: the share shown as a random token; the rest stay.
    whole_word: mask all pieces of a word or none.
    next_sentence: pairs for the next-sentence task; else single segments of
      whole sentences.
    short_probability: how often a document is cut into shorter sequences
      than would fit.
  """

  length: int = 128
  max_predictions: int = 20
  mask_rate: float = 0.15
  mask_share: float = 0.8
  random_share: float = 0.1
  whole_word: bool = False
  next_sentence: bool = True
  short_probability: float = 0.1

  def __post_init__(self):
    if not 5 <= self.length < 1 << 16:
      raise ValueError(f"length: expected 5 to 65535, got {self.length}")
    if self.max_predictions < 1:
      raise ValueError(
        f"max_predictions: expected at least 1, got {self.max_predictions}"
      )
    for name in ("mask_rate", "mask_share", "random_share"):
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(f"{name}: expected 0 to 1, got {getattr(self, name)}")
    if self.mask_share + self.random_share > 1 + 1e-9:
      raise ValueError(
        "random_share: with mask_share expected at most 1, got"
        f" {self.mask_share} + {self.random_share}"
      )
    if not 0 <= self.short_probability <= 1:
      raise ValueError(
        f"short_probability: expected 0 to 1, got {self.short_probability}"
      )

  @property
  def max_tokens(self) -> int:
    """Tokens in a row besides `[CLS]` and the `[SEP]`s."""
    return self.length - (3 if self.next_sentence else 2)


class PretrainingExamples:
  """The examples of each epoch, by random access.

  Example `index` of an epoch is a function of (seed, epoch, index) and the
  corpus, whoever asks, whenever. Within an epoch they follow the corpus;
  `stream.Stream` shuffles. Threads may share an object; it pickles without
  its plans, so each process makes its own (about 17 s and 0.5 GB an epoch
  for English Wikipedia at length 128).
  """

  def __init__(
    self,
    corpus: pairing.Corpus,
    special: SpecialIds,
    vocabulary_size: int,
    continuations: Bool[np.ndarray, "vocabulary"],
    config: ExamplesConfig,
    seed: int,
  ):
    """Makes no example yet.

    Args:
      corpus: the tokenised documents.
      special: the special ids of their tokenizer.
      vocabulary_size: the tokenizer's; random replacements come from it.
      continuations: which ids continue a word; for whole-word masking.
      config: how documents become examples.
      seed: of all that is random, not negative.

    Raises:
      UserError: the corpus is empty, or the seed negative.
    """
    if not len(corpus):
      raise UserError("config.data.corpus: the corpus has no documents")
    if not 0 <= seed < 1 << 63:
      raise UserError(f"config.seed: expected 0 to 2**63 - 1, got {seed}")
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
    self._plans: dict[int, pairing.Plan] = {}
    self._lengths: dict[int, int] = {}
    self._lock = threading.Lock()

  def __getstate__(self) -> dict[str, object]:
    own = ("_plans", "_lengths", "_lock")
    return {k: v for k, v in self.__dict__.items() if k not in own}

  def __setstate__(self, state: dict[str, object]) -> None:
    self.__dict__.update(state)
    self._reset()

  def epoch_length(self, epoch: int) -> int:
    """How many examples the epoch has; epochs differ a little."""
    if epoch not in self._lengths:
      self._plan(epoch)
    return self._lengths[epoch]

  def example(self, epoch: int, index: int) -> Batch:
    """Example `index` of `epoch`, unbatched, as NumPy arrays.

    `[CLS] A [SEP] B [SEP]`, or `[CLS] A [SEP]`, padded to `length`, int32.
    The targets: `masked_positions`, `masked_ids` (int32) and
    `masked_weights` (float32), all [max_predictions]; the scalars
    `next_sentence_labels` (int32; 0 = next, 1 = random) and
    `next_sentence_weights` (float32; 0 where there are no pairs).

    Raises:
      IndexError: the epoch has no such example.
      UserError: the corpus is damaged.
    """
    plan = self._plan(epoch)
    if not 0 <= index < len(plan.first):
      raise IndexError(f"example {index} of {len(plan.first)}")
    rng = np.random.Generator(
      np.random.Philox(key=[self._seed, epoch], counter=[0, 0, 0, index])
    )
    pair = pairing.make_pair(
      self._corpus,
      plan,
      index,
      max_tokens=self._config.max_tokens,
      pairs=self._config.next_sentence,
      rng=rng,
    )
    return self._assemble(pair, rng)

  def _plan(self, epoch: int) -> pairing.Plan:
    with self._lock:
      if epoch not in self._plans:
        # The oldest asked for goes; a reader that has it keeps it alive.
        while len(self._plans) >= _PLANS_KEPT:
          del self._plans[next(iter(self._plans))]
        self._plans[epoch] = pairing.make_plan(
          self._corpus,
          max_tokens=self._config.max_tokens,
          short_probability=self._config.short_probability,
          pairs=self._config.next_sentence,
          seed=self._seed,
          epoch=epoch,
        )
        self._lengths[epoch] = len(self._plans[epoch].first)
      return self._plans[epoch]

  def _assemble(self, pair: pairing.Pair, rng: np.random.Generator) -> Batch:
    config, special = self._config, self._special
    rows = np.zeros((4, config.length), np.int32)
    token_ids, segment_ids, position_ids, sequence_ids = rows
    used = len(pair.a) + len(pair.b) + 2 + config.next_sentence
    a_end = len(pair.a) + 2
    token_ids[0] = special.cls
    token_ids[1 : a_end - 1] = pair.a
    token_ids[a_end - 1] = special.sep
    if config.next_sentence:
      token_ids[a_end : used - 1] = pair.b
      token_ids[used - 1] = special.sep
    segment_ids[a_end:used] = 1
    position_ids[:used] = np.arange(used)
    sequence_ids[:used] = 1
    masked = masking.mask(token_ids[:used], self._masking, rng)
    token_ids[:used] = masked.token_ids
    token_ids[used:] = special.pad
    return Batch(
      token_ids=token_ids,
      segment_ids=segment_ids,
      position_ids=position_ids,
      sequence_ids=sequence_ids,
      targets={
        "masked_positions": masked.positions,
        "masked_ids": masked.ids,
        "masked_weights": masked.weights,
        "next_sentence_labels": np.array(pair.is_random, np.int32),
        "next_sentence_weights": np.array(config.next_sentence, np.float32),
      },
    )

"""Batches of several streams, one of which each batch is drawn from."""

import threading
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int64

from bert_jax.data.stream import BatchStream
from bert_jax.types import Batch

# Batches whose stream is drawn together.
_BLOCK = 1024


class MixedStream:
  """Several streams, sampled by the temperature of their sizes.

  Batch `b` is a function of (seed, b) and the streams, whatever was drawn
  before. Threads may share it, and it pickles.

  Attributes:
    batch_size: rows of a batch over all hosts.
    batches_per_epoch: batches of all streams' epochs together.
    probabilities: of each stream, to be the one of a batch.
  """

  def __init__(
    self,
    streams: Sequence[BatchStream],
    temperature: float,
    seed: int,
    start: Mapping[str, int] | None = None,
  ):
    """Makes no batch yet.

    Args:
      streams: of one batch size, each from its beginning.
      temperature: streams are sampled in proportion to their size to the
        power of 1/temperature: 1 by their size, large ones all the same.
      seed: of the choice, not negative.
      start: what `position_after` gave, or None for the beginning.
    """
    self._arguments = (streams, temperature, seed, start)
    self._streams, self._seed = streams, seed
    self.batch_size = streams[0].batch_size
    sizes = np.array([stream.batches_per_epoch for stream in streams], float)
    self.batches_per_epoch = int(sizes.sum())
    powers = sizes ** (1 / temperature)
    self.probabilities = powers / powers.sum()
    self._first = start["batches"] if start else 0
    # For each block its choices, and how many each stream gave before it.
    self._blocks: list[tuple[Int64[np.ndarray, "block"], np.ndarray]] = []
    self._lock = threading.Lock()

  def __reduce__(self) -> tuple[object, ...]:
    return MixedStream, self._arguments

  def batch(self, index: int, rows: Sequence[int]) -> Batch:
    """Some rows of batch `index`, counted from the start; NumPy arrays."""
    block, place = divmod(self._first + index, _BLOCK)
    with self._lock:
      while len(self._blocks) <= block:
        self._draw()
    choices, before = self._blocks[block]
    chosen = choices[place]
    earlier = before[chosen] + np.count_nonzero(choices[:place] == chosen)
    return self._streams[chosen].batch(int(earlier), rows)

  def position_after(self, batches: int) -> dict[str, int]:
    """Where a new stream continues once `batches` batches are consumed."""
    return {"batches": self._first + batches}

  def _draw(self) -> None:
    count = len(self._streams)
    before = np.zeros(count, np.int64)
    if self._blocks:
      choices, before = self._blocks[-1]
      before = before + np.bincount(choices, minlength=count)
    rng = np.random.default_rng([self._seed, len(self._blocks)])
    choices = rng.choice(count, _BLOCK, p=self.probabilities)
    self._blocks.append((choices, before))

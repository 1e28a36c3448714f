"""Mixing of several streams for multi-task training."""

import threading
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int64

from bert_jax.batch import Batch
from bert_jax.data.stream import BatchStream, Positioned

# The number of batches whose streams are sampled together.
_BLOCK = 1024


class MixedStream(Positioned):
  """Samples the stream of each batch, by size and temperature.

  Batch `b` is a function of (seed, b) and the streams. A stream is thread-safe
  and can be pickled.

  `probabilities` are the sampling probabilities of the streams; float64.
  """

  def __init__(
    self,
    streams: Sequence[BatchStream],
    temperature: float,
    seed: int,
    start: Mapping[str, int] | None = None,
  ):
    """Creates the stream; batches are made on request.

    Args:
      streams: streams of the same batch size, each at its beginning.
      temperature: the probability of a stream is proportional to
        size ** (1 / temperature): 1 samples by size, infinity uniformly.
      seed: the seed of the sampling, not negative.
      start: a position from `position_after`, or None.
    """
    self._arguments = (streams, temperature, seed, start)
    self._streams, self._seed = streams, seed
    self.batch_size = streams[0].batch_size
    sizes = np.array([stream.batches_per_epoch for stream in streams], float)
    self.batches_per_epoch = int(sizes.sum())
    powers = sizes ** (1 / temperature)
    self.probabilities = powers / powers.sum()
    self._first = start["batches"] if start else 0
    # Per block: the streams of its batches, and the batches of each stream
    # before the block.
    self._blocks: list[tuple[Int64[np.ndarray, "block"], np.ndarray]] = []
    self._lock = threading.Lock()

  def batch(self, index: int, rows: Sequence[int]) -> Batch:
    """The given rows of batch `index`, counted from the start."""
    block, place = divmod(self._first + index, _BLOCK)
    with self._lock:
      while len(self._blocks) <= block:
        self._draw()
    choices, before = self._blocks[block]
    chosen = choices[place]
    earlier = before[chosen] + np.count_nonzero(choices[:place] == chosen)
    return self._streams[chosen].batch(int(earlier), rows)

  def position_after(self, batches: int) -> dict[str, int]:
    """The position after some batches, at which a new stream can start."""
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

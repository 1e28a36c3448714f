"""Tokenizes documents into shards, and counts words for the vocabulary.

These functions run in the worker processes of the preparation of a corpus. A
shard is a contiguous range of documents for any number of workers, so the same
text gives the same bytes on any machine.
"""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from jaxtyping import Bool, UInt64

from bert_jax.data import counter_rng, sources
from bert_jax.data.corpus import segmentation, statistics
from bert_jax.data.corpus import sentences as sentences_lib
from bert_jax.data.corpus import shards as shards_lib
from bert_jax.storage import folders, paths
from bert_jax.text import files as tokenizer_files
from bert_jax.text.tokenizer import Tokenizer

# The approximate number of characters tokenized in one call.
_BATCH_CHARACTERS = 1 << 20
_HASHED_AT_ONCE = 1 << 20


@dataclasses.dataclass(frozen=True)
class Job:
  """The settings of all workers.

  Attributes:
    source: the documents.
    sentences: a name in `sentences.SPLITTERS`.
    folder: the folder of the shards, which all workers can access.
    scratch: a folder for temporary files, which all workers can access.
    shards: the number of shards.
    eval_threshold: documents whose index has a hash less than this are in the
      eval split.
    words: a name in `segmentation.SEGMENTERS`, if any.
  """

  source: sources.Source
  sentences: str
  folder: paths.Path
  scratch: paths.Path
  shards: int
  eval_threshold: int
  words: str | None = None

  def documents(self, shard: int) -> range:
    """The indices of the documents of a shard, of both splits."""
    size = len(self.source)
    return range(size * shard // self.shards, size * (shard + 1) // self.shards)


def is_part(name: str) -> bool:
  """Whether a name is that of a file of a corpus other than its manifest."""
  is_data = name.startswith(shards_lib.SPLITS)
  return is_data or name.endswith(".model") or name in tokenizer_files.NAMES


def _hashes(indices: range) -> UInt64[np.ndarray, "n"]:
  return counter_rng.hash_integers(
    np.arange(indices.start, indices.stop, dtype=np.uint64)
  )


def eval_mask(indices: range, below: int) -> Bool[np.ndarray, "n"]:
  """Whether each document is in the eval split."""
  if not below:
    return np.zeros(len(indices), bool)
  return _hashes(indices) <= np.uint64(below - 1)


def eval_threshold(documents: int, fraction: float) -> int:
  """The `Job.eval_threshold` for a fraction of the documents.

  Unless the fraction is 0, each split has at least one document.
  """
  if not fraction:
    return 0
  smallest, largest = 1 << 64, 0
  for start in range(0, documents, _HASHED_AT_ONCE):
    hashes = _hashes(range(start, min(start + _HASHED_AT_ONCE, documents)))
    smallest = min(smallest, int(hashes.min()))
    largest = max(largest, int(hashes.max()))
  return min(max(int(fraction * (1 << 64)), smallest + 1), largest)


def count_words(
  job: Job,
  shard: int,
  step: int,
  count: Callable[[Iterable[str]], collections.Counter[str]],
) -> collections.Counter[str]:
  """Counts the words of every `step`-th document of the train split.

  `count` counts those of texts.
  """
  indices = job.documents(shard)
  is_eval = eval_mask(indices, job.eval_threshold)
  return count(
    record["text"]
    for index, skip in zip(indices, is_eval)
    if index % step == 0 and not skip
    for record in [job.source[index]]
    for _ in range(record.get("copies", 1))
  )


def write_shard(
  job: Job, shard: int, tokenizer: Tokenizer
) -> statistics.Statistics:
  """Tokenizes the documents of a shard and writes those of each split.

  Raises:
    UserError: a document cannot be read, or the shard cannot be written.
  """
  counts = statistics.Statistics()
  with folders.staging(job.folder, job.scratch) as folder:
    writers = [
      shards_lib.ShardWriter(
        folder / shards_lib.shard_name(split, shard, job.shards),
        len(tokenizer),
        marks_words=job.words is not None,
      )
      for split in shards_lib.SPLITS
    ]
    is_eval = eval_mask(job.documents(shard), job.eval_threshold)
    first = 0
    for batch, copies in _batches(job, job.documents(shard), counts):
      splits = is_eval[first : first + len(batch)]
      first += len(batch)
      # A copy in the eval split would tell nothing new.
      times = np.where(splits, 1, copies)
      if times.max() > 1:
        batch = [batch[i] for i in np.repeat(np.arange(len(batch)), times)]
        splits = np.repeat(splits, times)
      _write_batch(batch, splits, tokenizer, job.words, writers, counts)
    for writer in writers:
      writer.close()
  return counts


def _write_batch(
  batch: list[list[str]],
  is_eval: Bool[np.ndarray, "documents"],
  tokenizer: Tokenizer,
  segmenter: str | None,
  writers: list[shards_lib.ShardWriter],
  counts: statistics.Statistics,
) -> None:
  """Writes documents, given as lists of sentences, and counts them."""
  texts = list(itertools.chain(*batch))
  pieces = tokenizer.encode_pieces(texts)
  lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
  ids = np.fromiter(
    itertools.chain.from_iterable(pieces), np.int32, int(lengths.sum())
  )
  document = np.repeat(np.arange(len(batch)), list(map(len, batch)))
  kept = lengths > 0
  document, lengths = document[kept], lengths[kept]
  counts.empty_sentences += len(kept) - len(lengths)
  counts.add_sentences(ids, lengths, tokenizer.special.unknown)
  if segmenter is not None:
    ids = segmentation.mark(ids, texts, pieces, tokenizer, segmenter)
  sizes = np.bincount(document, minlength=len(batch))
  written = sizes > 0
  counts.documents += int(np.count_nonzero(written))
  counts.eval_documents += int(np.count_nonzero(written & is_eval))
  counts.single += int(np.count_nonzero(sizes == 1))
  counts.empty_documents += int(np.count_nonzero(~written))
  sentence_ends = np.cumsum(sizes)
  token_ends = np.concatenate([[0], np.cumsum(lengths)])[sentence_ends]
  sentence = token = 0
  for split, sentence_end, token_end in zip(
    is_eval.tolist(), sentence_ends.tolist(), token_ends.tolist()
  ):
    if sentence_end > sentence:
      writers[split].write(ids[token:token_end], lengths[sentence:sentence_end])
    sentence, token = sentence_end, token_end


def _batches(
  job: Job, indices: range, counts: statistics.Statistics
) -> Iterator[tuple[list[list[str]], list[int]]]:
  """Yields documents as sentences, and their copies; counts the text read."""
  split = sentences_lib.SPLITTERS[job.sentences]
  batch, copies, characters = [], [], 0
  for index in indices:
    record = job.source[index]
    counts.replaced_bytes += record["replaced_bytes"]
    counts.characters += len(record["text"])
    characters += len(record["text"])
    batch.append(split(record["text"]))
    copies.append(record.get("copies", 1))
    if characters >= _BATCH_CHARACTERS:
      yield batch, copies
      batch, copies, characters = [], [], 0
  if batch:
    yield batch, copies

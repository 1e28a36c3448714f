"""Embeds a large file of texts on all local devices, in bounded memory.

`python -m examples.embed_file MODEL TEXTS.txt VECTORS.npy` writes a float32
array with a row for each line. Rows of a batch are split over the devices; the
file is read, and the vectors are written, a chunk at a time.
"""

import itertools
import sys

import jax
import numpy as np

import bert_jax

CHUNK = 4096


def main(where: str, texts: str, output: str) -> np.ndarray:
  """Returns the vectors, memory-mapped."""
  # One row for each device, and 64 rows at once on each of them.
  model = bert_jax.load(where, batch_size=64 * jax.local_device_count())
  with open(texts, encoding="utf-8") as file:
    count = sum(1 for _ in file)
  width = model.embed("").size
  vectors = np.lib.format.open_memmap(
    output, mode="w+", dtype=np.float32, shape=(count, width)
  )
  with open(texts, encoding="utf-8") as file:
    done = 0
    while lines := list(itertools.islice(file, CHUNK)):
      chunk = [line.rstrip("\n") for line in lines]
      vectors[done : done + len(chunk)] = model.embed(chunk)
      done += len(chunk)
      print(f"{done:,} of {count:,} texts")
  vectors.flush()
  return vectors


if __name__ == "__main__":
  main(*sys.argv[1:])

"""A corpus in memory with the interface of `shards.Corpus`."""

import numpy as np


class MemoryCorpus:
  def __init__(self, documents):
    self.documents = documents
    lengths = [len(sentence) for doc in documents for sentence in doc]
    self.sentence_lengths = np.array(lengths, np.uint32)
    sizes = [len(document) for document in documents]
    self.document_starts = np.cumsum([0, *sizes], dtype=np.int64)

  def __len__(self):
    return len(self.documents)

  def __getitem__(self, index):
    return self.documents[index]


def make_corpus(documents=400, mean_sentences=12, seed=0, vocabulary=1 << 30):
  """Token ids count up, so that a token says where it comes from.

  With a vocabulary they begin anew beyond it; the first five are left out.
  """
  first = 5 if vocabulary < 1 << 30 else 0
  rng = np.random.default_rng(seed)
  made, token = [], 0
  for _ in range(documents):
    document = []
    for _ in range(rng.geometric(1 / mean_sentences)):
      length = int(np.clip(rng.lognormal(2.5, 0.8), 1, 300))
      ids = np.arange(token, token + length, dtype=np.int32)
      document.append(first + ids % (vocabulary - first))
      token += length
    made.append(document)
  return MemoryCorpus(made)

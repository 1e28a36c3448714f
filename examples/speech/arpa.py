"""A bigram model as a file in the ARPA format, which recognizers read."""

import math
import os
from collections.abc import Iterable

from bert_jax.evaluation.ngrams import NgramModel

START, END, UNKNOWN = "<s>", "</s>", "<unk>"


def write(path: str | os.PathLike, sentences: Iterable[str]) -> NgramModel:
  """Trains a bigram model on sentences, words between spaces; writes it."""
  texts = [sentence.split() for sentence in sentences]
  model = NgramModel.train(texts, order=2)
  bigrams = sorted(
    {pair for text in texts for pair in zip((START, *text), (*text, END))}
  )
  words = sorted({UNKNOWN, *(word for pair in bigrams for word in pair)})

  def log(*gram: str) -> float:
    return math.log10(model.probability(gram))

  with open(path, "w", encoding="utf-8") as file:
    print("\\data\\", file=file)
    print(f"ngram 1={len(words)}\nngram 2={len(bigrams)}\n", file=file)
    print("\\1-grams:", file=file)
    for word in words:
      own = -99.0 if word == START else log(word)
      # A word that was never seen has the probability of backing off alone.
      backoff = log(word, UNKNOWN) - log(UNKNOWN)
      print(f"{own:.6f}\t{word}\t{backoff:.6f}", file=file)
    print("\n\\2-grams:", file=file)
    for pair in bigrams:
      print(f"{log(*pair):.6f}\t{' '.join(pair)}", file=file)
    print("\n\\end\\", file=file)
  return model

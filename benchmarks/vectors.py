"""Retrieval with vectors of fewer dimensions and fewer bits, on Cranfield.

  python -m benchmarks.vectors --data CRANFIELD --models MODEL ...
  python -m benchmarks.vectors --data CRANFIELD --pairs titles.jsonl

CRANFIELD has the 1,400 abstracts of aerodynamics, 225 questions and judgements
of the collection (Cleverdon 1967) in TREC's form: `cran.all.1400.xml`,
`cran.qry.xml`, `cranqrel.trec.txt`. Prints nDCG at 10 of each model by width
and precision; documents of a grade above 0 are relevant. Vectors are cut to
their first dimensions, and then quantized (`bert_jax.vectors`), `int8` by the
ranges of the documents. In `binary, float32` only the documents are binary;
the questions keep their vectors. The floor is TF-IDF of words.

`--pairs` writes the titles and the texts of the documents as records to train
with (configs/finetune/embedding.py); no question is among them.

Writes benchmarks/results/vectors.json.
"""

import argparse
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from rich.table import Table
from sklearn.feature_extraction.text import TfidfVectorizer

import bert_jax
from benchmarks import runner
from bert_jax import vectors
from bert_jax.settings import UserError
from bert_jax.tasks.metrics import retrieval

_DOCUMENTS, _QUERIES = "cran.all.1400.xml", "cran.qry.xml"
_JUDGEMENTS = "cranqrel.trec.txt"
_METRIC = "ndcg_at_10"
_ASYMMETRIC = "binary, float32"
# Bytes of a document's dimension.
PRECISIONS = {"float32": 4, "int8": 1, _ASYMMETRIC: 1 / 8, "binary": 1 / 8}


class Collection(NamedTuple):
  """Documents and questions.

  Attributes:
    titles: of the documents.
    texts: of the documents, which begin with their titles.
    queries: the questions.
    relevant: for each question the indices of its documents.
  """

  titles: Sequence[str]
  texts: Sequence[str]
  queries: Sequence[str]
  relevant: Sequence[set[int]]


def read(folder: pathlib.Path) -> Collection:
  """Reads the collection.

  Raises:
    UserError: a file cannot be read, or is not of this form.
  """
  try:
    documents, queries, judgements = (
      (folder / name).read_text("utf-8")
      for name in (_DOCUMENTS, _QUERIES, _JUDGEMENTS)
    )
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f"--data: {error}") from error
  titles, texts = (_elements(documents, x) for x in ("title", "text"))
  numbers = [*map(int, _elements(documents, "docno"))]
  found = Collection(titles, texts, _elements(queries, "title"), [])
  if not len(titles) == len(texts) == len(numbers) or not found.queries:
    raise UserError(f"--data: {folder}: expected a title and text of each doc")
  places = {number: place for place, number in enumerate(numbers)}
  relevant: list[set[int]] = [set() for _ in found.queries]
  try:
    for line in judgements.splitlines():
      # Questions are counted from 1; their `num` is another number.
      query, _, document, grade = map(int, line.split())
      if grade > 0:
        relevant[query - 1].add(places[document])
  except (ValueError, IndexError, KeyError) as error:
    raise UserError(
      f"--data: {folder / _JUDGEMENTS}: expected QUERY 0 DOCUMENT GRADE, got"
      f" {line!r:.80}"
    ) from error
  return found._replace(relevant=relevant)


def _elements(content: str, name: str) -> list[str]:
  found = re.findall(rf"<{name}>(.*?)</{name}>", content, re.DOTALL)
  return [" ".join(text.split()) for text in found]


def measure(
  queries: Float[np.ndarray, "queries width"],
  documents: Float[np.ndarray, "documents width"],
  relevant: Sequence[set[int]],
  widths: Sequence[int],
) -> dict[str, dict[str, float]]:
  """The nDCG at 10 by width, and by precision.

  Args:
    queries: vectors of the questions.
    documents: vectors of the documents.
    relevant: for each question the indices of its documents.
    widths: of the prefixes, other than the whole.
  """
  whole = queries.shape[1]
  found: dict[str, dict[str, float]] = {}
  for width in sorted({whole, *(x for x in widths if x < whole)}, reverse=True):
    asked, known = queries[:, :width], documents[:, :width]
    ranges = vectors.ranges(known)
    pairs = {
      "float32": (asked, known),
      "int8": tuple(
        vectors.quantize(x, "int8", ranges) for x in (asked, known)
      ),
      # The similarity of bits is, but for a factor, that of signs.
      _ASYMMETRIC: (asked, _signs(known)),
      "binary": (_signs(asked), _signs(known)),
    }
    found[str(width)] = {
      precision: retrieval.evaluate(*pair, relevant)[_METRIC]
      for precision, pair in pairs.items()
    }
  return found


def _signs(
  given: Float[np.ndarray, "texts width"],
) -> Float[np.ndarray, "texts width"]:
  """1 and -1 for the bits of binary vectors."""
  bits = np.unpackbits(vectors.quantize(given, "ubinary"), axis=-1)
  return 2.0 * bits[:, : given.shape[1]] - 1


def tfidf(collection: Collection) -> float:
  """The nDCG at 10 of TF-IDF of words."""
  vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english")
  documents = vectorizer.fit_transform(collection.texts).toarray()
  queries = vectorizer.transform(collection.queries).toarray()
  return retrieval.evaluate(queries, documents, collection.relevant)[_METRIC]


def print_results(results: Mapping[str, Any]) -> None:
  """Prints a table for each model."""
  for name, by_width in results["models"].items():
    whole = by_width[next(iter(by_width))]["float32"]
    table = Table("dimensions", *PRECISIONS, title=name)
    for width, found in by_width.items():
      cells = (
        f"{found[x]:.3f} ({found[x] / whole:.0%}, {int(width) * size:g} B)"
        for x, size in PRECISIONS.items()
      )
      table.add_row(width, *cells)
    runner.print_table(table)
  print(f"TF-IDF: {results['tfidf']:.3f}")


def _arguments() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("--data", type=pathlib.Path, required=True)
  parser.add_argument("--models", nargs="+", help="what bert_jax.load takes")
  parser.add_argument(
    "--max_length", type=int, help="tokens of a text; by default the model's"
  )
  parser.add_argument("--pairs", type=pathlib.Path, help="a file to write")
  parser.add_argument(
    "--widths", nargs="+", type=int, default=[256, 128, 64, 32]
  )
  return parser


def main() -> None:
  """Writes pairs, or measures and prints."""
  parser = _arguments()
  arguments = parser.parse_args()
  try:
    collection = read(arguments.data)
    if arguments.pairs:
      rows = zip(collection.titles, collection.texts)
      lines = [
        json.dumps({"text": title, "pair": text.removeprefix(title).strip()})
        for title, text in rows
        if text
      ]
      arguments.pairs.write_text("\n".join(lines) + "\n")
      return
    models = {}
    for where in arguments.models or parser.error("--models: missing"):
      model = bert_jax.load(where)
      options = {}
      if arguments.max_length is not None:
        options["max_length"] = arguments.max_length
      models[where] = measure(
        model.embed(collection.queries, **options),
        model.embed(collection.texts, **options),
        collection.relevant,
        arguments.widths,
      )
  except UserError as error:
    parser.error(str(error))
  results = {
    "machine": runner.machine(),
    "tfidf": tfidf(collection),
    "models": models,
  }
  runner.write_results(runner.RESULTS / "vectors.json", results)
  print_results(results)


if __name__ == "__main__":
  main()

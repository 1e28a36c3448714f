"""What models write beside floors and published figures.

  python -m benchmarks.writing java_cs
    --train JAVA_CS/train.java JAVA_CS/train.cs
    --eval JAVA_CS/test.java JAVA_CS/test.cs [--model RUN]
    [--num_beams 4 | --top_p 0.9]

Prints a table of the metrics of each data set, and with `--model` ten examples,
five of the best and five of the worst by chrF. Data sets are `java_cs`
(CodeXGLUE), `multi30k` (en-de, test 2016), `code_summary` (`bert-jax pairs`),
`dialogue` and `summarization`. Files of translations are parallel, a file for
each side; others are JSON lines, or dialogues. Metrics are those of
`bert_jax.tasks.metrics.texts`: `bleu` is sacreBLEU's, with its signature below
the table, and `bleu_whitespace` has the tokens of CodeXGLUE. Perplexity is that
of a token of the model's vocabulary, beside that by the counts of tokens.

Writes benchmarks/results/writing_NAME.json.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

import bert_jax
from benchmarks import floors, runner
from bert_jax.evaluation import evaluate
from bert_jax.settings import UserError
from bert_jax.tasks import LABELLED, TASKS, labelled
from bert_jax.tasks.labelled import LabelledConfig
from bert_jax.tasks.metrics import texts

_TASK = TASKS["generation"]
_EXAMPLES = 5
# From 0 to 100; others are shares.
_PERCENT = ("bleu", "bleu_whitespace", "chrf")


class DataSet(NamedTuple):
  """What is measured on a data set.

  Attributes:
    metrics: keys of `texts.evaluate`.
    floors: by name.
    published: figures of others, by metric.
    also: fields of records besides those of the task.
    format: that of the files, see `RecordsConfig`.
  """

  metrics: Sequence[str]
  floors: Mapping[str, floors.Floor]
  published: Mapping[str, Mapping[str, float]] = {}
  also: tuple[str, ...] = ()
  format: str = ""


_ROUGE = ("rouge1", "rouge2", "rougeL")
_NEAREST = {"nearest neighbour": floors.nearest}
DATA_SETS: Mapping[str, DataSet] = {
  # Lu et al. (2021, arXiv:2102.04664), table 6.
  "java_cs": DataSet(
    ("exact_match", "bleu_whitespace", "bleu", "chrf"),
    {
      "copy": floors.copy,
      **_NEAREST,
      "nearest neighbour, names exchanged": floors.nearest_with_names,
    },
    {
      "Transformer (CodeXGLUE)": {
        "exact_match": 0.33,
        "bleu_whitespace": 55.84,
      },
      "CodeBERT (CodeXGLUE)": {"exact_match": 0.59, "bleu_whitespace": 79.92},
    },
    format="parallel",
  ),
  "multi30k": DataSet(
    ("bleu", "chrf", "exact_match"),
    {"copy": floors.copy, "word by word": floors.word_by_word, **_NEAREST},
    format="parallel",
  ),
  "code_summary": DataSet(
    ("rougeL", "rouge1", "rouge2", "exact_match"),
    {"the function's name": floors.name_in_words, **_NEAREST},
    also=("name",),
  ),
  "dialogue": DataSet(
    ("bleu", "rougeL", "distinct1", "distinct2"),
    {"commonest reply": floors.commonest, **_NEAREST},
  ),
  # Bao et al. (2021, arXiv:2110.13640).
  "summarization": DataSet(
    _ROUGE,
    {"commonest target": floors.commonest, **_NEAREST},
    {
      "MiniLM-L6-H384 by s2s-ft, XSum": {
        "rouge1": 0.3879,
        "rouge2": 0.1639,
        "rougeL": 0.3110,
      }
    },
  ),
}


def section(
  name: str, train: Sequence[str], evaluation: Sequence[str]
) -> LabelledConfig:
  """Where the records of a data set are."""
  return LABELLED[_TASK.name](
    train=tuple(train), eval=tuple(evaluation), format=DATA_SETS[name].format
  )


def measure(
  name: str,
  data: LabelledConfig,
  model: bert_jax.Model | None = None,
  **options: Any,
) -> dict[str, Any]:
  """The metrics of the floors and of a model, and what the model wrote.

  Args:
    name: a key of `DATA_SETS`.
    data: where the records are.
    model: writes too, if given.
    **options: of its predictions, such as `num_beams`.

  Raises:
    UserError: records cannot be read, or the model does not write.
  """
  given = DATA_SETS[name]
  train, asked = (
    [
      row.record
      for row in labelled.read_split(data, _TASK, split, given.also).rows
    ]
    for split in ("train", "eval")
  )
  gold = [record["target"] for record in asked]
  found: dict[str, Any] = {
    "floors": {
      floor: texts.evaluate(gold, write(train, asked))
      for floor, write in given.floors.items()
    },
    "published": given.published,
    "signature": texts.signatures()["bleu"],
  }
  if model is None:
    return found
  if not model.task.writes:
    raise UserError(f"--model: its task, {model.task.name}, does not write")
  started = time.perf_counter()
  source = evaluate.Source(data, given.also)
  evaluated = evaluate.evaluate(model, source, **options)
  seconds = time.perf_counter() - started
  written = [
    model.task.decode(record, prediction)[0].text
    for record, prediction in zip(evaluated.records, evaluated.predictions)
  ]
  found["ours"] = {
    **evaluated.metrics,
    "perplexity_by_counts": _perplexity_by_counts(model, train, asked),
    "seconds": seconds,
  }
  found["examples"] = _examples(asked, gold, written)
  return found


def _perplexity_by_counts(
  model: bert_jax.Model, train: floors.Records, asked: floors.Records
) -> float:
  """That of tokens in the model's vocabulary, by their counts in training."""
  end = [model.tokenizer.special.sep]
  tokens = [
    [
      pieces + end
      for pieces in model.tokenizer.encode_pieces(
        [record["target"] for record in records]
      )
    ]
    for records in (train, asked)
  ]
  return floors.unigram_perplexity(*tokens, len(model.tokenizer))


def _examples(
  asked: floors.Records, gold: Sequence[str], written: Sequence[str]
) -> list[dict[str, str]]:
  """Those at even steps among the best tenth, then among the worst."""
  order = np.argsort(texts.each_chrf(gold, written), kind="stable")[::-1]
  tenth = max(1, len(order) // 10)
  parts = (order[:tenth], order[-tenth:])
  chosen = [
    int(part[i])
    for part in parts
    for i in np.linspace(0, tenth - 1, min(tenth, _EXAMPLES)).astype(int)
  ]
  return [
    {
      "source": floors.source(asked[n]),
      "gold": gold[n],
      "written": written[n],
    }
    for n in chosen
  ]


def print_results(name: str, results: Mapping[str, Any]) -> None:
  """Prints the table, and the examples."""
  metrics = DATA_SETS[name].metrics
  table = Table("", *metrics)
  rows = {**results["floors"]}
  ours = results.get("ours", {})
  if ours:
    rows["bert_jax"] = ours
  for label, found in {**rows, **results["published"]}.items():
    cells = (
      f"{found[x]:{'.1f' if x in _PERCENT else '.3f'}}" if x in found else ""
      for x in metrics
    )
    table.add_row(label, *cells)
  runner.print_table(table)
  print(f"BLEU: {results['signature']}")
  for key in ("perplexity", "perplexity_by_counts", "seconds"):
    if key in ours:
      print(f"{key}: {ours[key]:.2f}")
  for example in results.get("examples", ()):
    print()
    for key, text in example.items():
      print(f"{key:8} {text}")


def _arguments() -> argparse.ArgumentParser:
  parser = runner.parser(__doc__)
  parser.add_argument("name", choices=DATA_SETS)
  parser.add_argument("--train", nargs="+", required=True)
  parser.add_argument("--eval", nargs="+", required=True)
  parser.add_argument("--model", help="what bert_jax.load takes")
  parser.add_argument("--num_beams", type=int, default=4)
  parser.add_argument("--length_penalty", type=float, default=1.0)
  parser.add_argument("--top_p", type=float, help="samples, without beams")
  return parser


def main() -> None:
  """Writes, measures and prints."""
  parser = _arguments()
  arguments = parser.parse_args()
  name = arguments.name
  try:
    texts.check_installed()
    options = {
      "num_beams": arguments.num_beams,
      "length_penalty": arguments.length_penalty,
    }
    if arguments.top_p is not None:
      options = {"do_sample": True, "top_p": arguments.top_p}
    results = measure(
      name,
      section(name, arguments.train, arguments.eval),
      arguments.model and bert_jax.load(arguments.model),
      **options,
    )
  except UserError as error:
    parser.error(str(error))
  results = {
    "arguments": vars(arguments),
    "machine": runner.machine(),
  } | results
  runner.write_results(runner.RESULTS / f"writing_{name}.json", results)
  print_results(name, results)


if __name__ == "__main__":
  main()

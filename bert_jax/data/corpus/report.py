"""The report on a prepared corpus: figures, and warnings with remedies."""

from collections.abc import Iterator, Mapping
from typing import Any

import rich
from rich import box, markup
from rich.table import Table

from bert_jax.data.corpus import statistics

Figures = Mapping[str, Any]
"""The figures of a report by name, as in `corpus.json`."""

_MANY_UNKNOWN = 0.01
_MANY_DUPLICATES = 0.1
_MANY_SINGLE = 0.2
_MANY_LONG = 0.01
_MANY_EMPTY = 0.01
_FEW_TOKENS = 1_000_000


def figures(
  counts: statistics.Statistics,
  vocabulary_size: int,
  wanted_size: int,
  cleaned: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """The figures of a report, as plain numbers for JSON.

  `cleaned` are those of `cleaning.clean`, if any.
  """
  return {
    **({} if cleaned is None else {"cleaning": cleaned}),
    "documents": counts.documents,
    "eval_documents": counts.eval_documents,
    "empty_documents": counts.empty_documents,
    "single_sentence_documents": counts.single,
    "sentences": counts.sentences,
    "empty_sentences": counts.empty_sentences,
    "sentences_per_document": round(counts.sentences / counts.documents, 3),
    "duplicate_share": round(counts.duplicates.share(), 4),
    "tokens": counts.tokens,
    "unknown_share": round(counts.unknown / counts.tokens, 6),
    "tokens_per_sentence": round(counts.tokens / counts.sentences, 3),
    "longest_sentence": counts.longest,
    "tokens_beyond_512_share": round(counts.long_tokens / counts.tokens, 6),
    # Of 1, 2-3, 4-7, 8-15, ... tokens.
    "sentence_lengths": {
      "1" if b == 1 else f"{2 ** (b - 1)}-{2**b - 1}": number
      for b, number in enumerate(counts.lengths.tolist())
      if number
    },
    "characters": counts.characters,
    "replaced_bytes": counts.replaced_bytes,
    "vocabulary_size": vocabulary_size,
    "vocabulary_wanted": wanted_size,
  }


def warnings(report: Figures) -> Iterator[str]:
  """Yields known problems for pretraining, each in a line with its remedy."""
  documents, tokens = report["documents"], report["tokens"]
  if report["unknown_share"] > _MANY_UNKNOWN:
    yield (
      f"{report['unknown_share']:.1%} of the tokens are unknown: increase"
      " config.corpus.vocab_size, or use a vocabulary for this language"
    )
  if report["duplicate_share"] > _MANY_DUPLICATES:
    yield (
      f"about {report['duplicate_share']:.0%} of the sentences are duplicates,"
      " which can stop learning: set config.corpus.clean.duplicate_lines=exact"
      " and config.corpus.clean.duplicate_documents=near"
    )
  if report["sentences_per_document"] < 2:
    yield (
      "most documents have one sentence, so next-sentence prediction cannot be"
      " learned: set config.corpus.documents or config.corpus.sentences so that"
      " documents have several, or train with config.data.next_sentence=False"
    )
  elif report["single_sentence_documents"] > _MANY_SINGLE * documents:
    share = report["single_sentence_documents"] / documents
    yield (
      f"{share:.0%} of the documents have one sentence: check"
      " config.corpus.documents"
    )
  if report["tokens_beyond_512_share"] > _MANY_LONG:
    yield (
      f"{report['tokens_beyond_512_share']:.1%} of the tokens are beyond the"
      " first 512 of their sentence and are never trained on: set"
      " config.corpus.sentences=prose"
    )
  dropped = report["empty_documents"]
  if dropped > _MANY_EMPTY * (documents + dropped):
    yield f"{dropped:,} documents have no text: check config.corpus.field"
  if report["replaced_bytes"]:
    yield (
      f"{report['replaced_bytes']:,} bytes are not UTF-8 and were replaced:"
      " convert the files, for instance with iconv"
    )
  if report["vocabulary_size"] < report["vocabulary_wanted"]:
    yield (
      f"the text gives a vocabulary of {report['vocabulary_size']:,} tokens"
      f" instead of {report['vocabulary_wanted']:,}: use more text, or decrease"
      " config.corpus.vocab_size"
    )
  if tokens < _FEW_TOKENS:
    yield f"{tokens:,} tokens are too few to train a useful model"


def print_report(report: Figures) -> None:
  """Prints the figures as a table, and the warnings."""
  table = Table(box=box.SIMPLE_HEAD, show_header=False)
  table.add_column(style="bold")
  table.add_column(justify="right")
  for name, value in _rows(report):
    table.add_row(name, value)
  if "cleaning" in report:
    rich.print(_cleaning_table(report["cleaning"]))
    for rule, removed in report["cleaning"]["removed"].items():
      for sample in removed.get("samples", ()):
        rich.get_console().print(
          f"[bold]{rule}[/], for example: {markup.escape(sample)}",
          soft_wrap=True,
          highlight=False,
        )
  rich.print(table)
  for warning in warnings(report):
    # A warning is one line, also in log files.
    rich.get_console().print(
      f"[bold yellow]warning:[/] {markup.escape(warning)}", soft_wrap=True
    )


def most_removed(cleaned: Mapping[str, Any]) -> str:
  """The rules of the cleaning that removed the most documents, as text."""
  documents = {
    rule: removed["documents"]
    for rule, removed in cleaned["removed"].items()
    if "documents" in removed
  }
  first = sorted(documents, key=documents.__getitem__, reverse=True)[:3]
  return ", ".join(f"{rule!r} removes {documents[rule]:,}" for rule in first)


def _cleaning_table(cleaned: Mapping[str, Any]) -> Table:
  """What each rule of the cleaning removed."""
  table = Table(box=box.SIMPLE_HEAD)
  table.add_column("cleaning", style="bold")
  for name in ("documents", "lines", "characters"):
    table.add_column(name, justify="right")
  table.add_row(
    "read", f"{cleaned['documents']:,}", "", f"{cleaned['characters']:,}"
  )
  for rule, removed in cleaned["removed"].items():
    documents = f"{removed['documents']:,}" if "documents" in removed else ""
    if "changed" in removed:
      documents = f"({removed['changed']:,} changed)"
    table.add_row(
      f"  {rule}",
      documents,
      *(
        f"{removed[name]:,}" if name in removed else ""
        for name in ("lines", "characters")
      ),
    )
  return table


def _rows(report: Figures) -> Iterator[tuple[str, str]]:
  documents, sentences = report["documents"], report["sentences"]
  yield "documents", f"{documents:,}"
  yield "  in the eval split", f"{report['eval_documents']:,}"
  yield "  with one sentence", f"{report['single_sentence_documents']:,}"
  yield "  without text, dropped", f"{report['empty_documents']:,}"
  yield "sentences", f"{sentences:,}"
  yield "  per document", f"{report['sentences_per_document']:.1f}"
  yield "  repeated (estimate)", f"{report['duplicate_share']:.1%}"
  yield "  without tokens, dropped", f"{report['empty_sentences']:,}"
  yield "tokens", f"{report['tokens']:,}"
  yield "  unknown", f"{report['unknown_share']:.3%}"
  yield "  per sentence", f"{report['tokens_per_sentence']:.1f}"
  yield "  in the longest sentence", f"{report['longest_sentence']:,}"
  yield "characters", f"{report['characters']:,}"
  yield "  bytes not UTF-8", f"{report['replaced_bytes']:,}"
  yield "vocabulary", f"{report['vocabulary_size']:,}"
  yield "sentences by number of tokens", ""
  for name, number in report["sentence_lengths"].items():
    yield f"  {name}", f"{number:,} ({number / sentences:.1%})"

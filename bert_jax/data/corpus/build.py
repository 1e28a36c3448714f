"""Prepares a corpus: a vocabulary, tokenized shards and a report."""

import collections
import dataclasses
import functools
import json
import os
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import rich.console
import rich.progress

from bert_jax import settings
from bert_jax import text as text_lib
from bert_jax.data import sources
from bert_jax.data.corpus import (
  cleaning,
  report,
  segmentation,
  sentences,
  shards,
  statistics,
  tokenization,
  workers,
)
from bert_jax.data.sources import files
from bert_jax.storage import folders, paths
from bert_jax.text import (
  byte_level,
  byte_level_trainer,
  loading,
  wordpiece_trainer,
)
from bert_jax.text import files as tokenizer_files
from bert_jax.text.basic_tokenizer import WordRules
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.text.wordpiece import WordPiece

_SCRATCH = "scratch"
_PROBED = 200  # Documents whose mean length is that of all.


@dataclasses.dataclass(frozen=True)
class CorpusConfig(sources.SourceConfig):
  """The section `config.corpus`; see also `SourceConfig`.

  Attributes:
    clean: rules that clean the documents first.
    sentences: "prose" splits running text into sentences; with "line" each
      line is a sentence, as in the input of BERT's own scripts.
    words: "jieba" finds the words of Chinese sentences (the extra `chinese`),
      which `config.data.whole_word` then masks as a whole; None leaves each
      ideograph a word.
    vocabulary: a folder or file with a tokenizer, as for `bert_jax.text.load`;
      None trains a vocabulary on the text.
    tokenizer: the kind of a trained vocabulary: "wordpiece" as BERT's, for text
      that is read; or "byte_level" as RoBERTa's, which keeps spaces and case,
      for text that is written.
    vocab_size: the size of a trained vocabulary, special tokens included.
    lowercase: whether text is lower-cased; None lower-cases for a trained
      WordPiece vocabulary and follows the files of a given one.
    vocabulary_sample: the approximate number of characters that the vocabulary
      is trained on, from documents spread evenly over the source; limits the
      memory.
    eval_fraction: the fraction of documents in the eval split.
    shards: the number of files of each split, and the maximum number of
      processes that work in parallel.
  """

  clean: cleaning.CleanConfig = dataclasses.field(
    default_factory=cleaning.CleanConfig
  )
  sentences: str = "prose"
  words: str | None = None
  vocabulary: str | None = None
  tokenizer: str = "wordpiece"
  vocab_size: int = 8192
  lowercase: bool | None = None
  vocabulary_sample: int = 100_000_000
  eval_fraction: float = 0.02
  shards: int = 16

  def __post_init__(self):
    super().__post_init__()
    settings.choice(
      "config.corpus.sentences", self.sentences, sentences.SPLITTERS
    )
    if self.words is not None:
      settings.choice(
        "config.corpus.words", self.words, segmentation.SEGMENTERS
      )
    settings.choice("config.corpus.tokenizer", self.tokenizer, _TRAINERS)
    if self.tokenizer == "byte_level" and self.lowercase:
      raise ValueError("lowercase: byte_level vocabularies keep the case")
    if not 0 <= self.eval_fraction < 1:
      raise ValueError(
        "eval_fraction: expected at least 0 and less than 1, got"
        f" {self.eval_fraction}"
      )
    for name in ("vocab_size", "vocabulary_sample", "shards"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name}: expected at least 1, got {getattr(self, name)}"
        )


class Prepared(NamedTuple):
  """The result of `prepare`."""

  report: report.Figures
  already_prepared: bool


def prepare(
  config: CorpusConfig,
  output: paths.Path,
  processes: int | None = None,
  overwrite: bool = False,
  runner: workers.Runner | None = None,
) -> Prepared:
  """Prepares a corpus, which `shards.Corpus.open` opens.

  The same documents and settings give the same bytes with any number of
  processes and machines. Files are written to `OUTPUT.partial`, which is
  renamed at the end; the next run removes what a killed run left there. For an
  output in a store they are written to a temporary folder and uploaded.

  Args:
    config: the settings.
    output: the folder to create, local or in a store.
    processes: the number of processes; None for one per core.
    overwrite: whether to replace another corpus at `output`.
    runner: runs the work on the shards; None for processes of this machine.

  Raises:
    UserError: the source is empty or unreadable, `output` is another corpus or
      something else, the disk is full, or a process was killed.
  """
  output = os.fspath(output).rstrip("/")
  if processes is not None and processes < 1:
    raise settings.UserError(f"processes: expected at least 1, got {processes}")
  made_from = {
    "config": _described(config),
    "source": sources.describe(config)
    + _describe_tokenizer(config.vocabulary)
    + cleaning.describe(config.clean)
    + segmentation.describe(config.words),
  }
  found = _already_there(output, made_from, overwrite)
  if found is not None:
    return Prepared(found, already_prepared=True)
  processes = processes or workers.available_cores()
  try:
    with (
      folders.atomic_folder(output, shards.MANIFEST) as folder,
      folders.shared_folder(output, folder)
      if runner
      else nullcontext(folder) as common,
    ):
      runner = runner or workers.local_runner(processes)
      manifest = _make(config, made_from, folder, common, processes, runner)
  except OSError as error:
    raise settings.UserError(f"cannot write {output}: {error}") from None
  return Prepared(manifest["report"], already_prepared=False)


def _described(config: CorpusConfig) -> dict[str, Any]:
  """The settings for `corpus.json`.

  Without keys that are newer than other corpora and have no effect, so that
  the same settings are described by the same bytes.
  """
  described = json.loads(json.dumps(dataclasses.asdict(config)))
  for name, is_set in (
    ("clean", config.clean.is_active),
    ("words", config.words),
    ("parts", config.parts),
    ("tokenizer", config.tokenizer != "wordpiece"),
  ):
    if not is_set:
      del described[name]
  return described


def _already_there(
  output: str, made_from: dict[str, Any], overwrite: bool
) -> report.Figures | None:
  """The report of the same corpus at `output`; None if there is none."""
  names = paths.list_names(output, None)
  if not paths.exists(output) or (paths.is_folder(output) and not names):
    return None
  if shards.MANIFEST not in names:
    if paths.is_remote(output) and all(map(tokenization.is_part, names)):
      return None  # An incomplete upload.
    raise settings.UserError(
      f"--output: {output} is not empty and not a corpus; choose another folder"
    )
  if overwrite:
    return None
  folder = paths.local(f"{output}/{shards.MANIFEST}").parent
  manifest = shards.read_manifest(folder)
  if any(manifest[key] != value for key, value in made_from.items()):
    raise settings.UserError(
      f"--output: {output} is a corpus of other text or settings; choose"
      " another folder, or pass --overwrite"
    )
  if paths.is_remote(output):  # Opening it would download all files.
    if missing := sorted(manifest["files"].keys() - set(names)):
      raise settings.UserError(
        f"--output: {output}/{missing[0]} is missing; pass --overwrite"
      )
    return manifest["report"]
  for split in shards.SPLITS:
    if manifest["splits"][split]["documents"]:
      shards.Corpus.open(output, split)
  return manifest["report"]


def _make(
  config: CorpusConfig,
  made_from: dict[str, Any],
  folder: pathlib.Path,
  common: paths.Path,
  processes: int,
  run: workers.Runner,
) -> dict[str, Any]:
  """Writes the corpus to `folder`, the manifest last; returns the manifest.

  The runner's machines write to the folder `common`, which is usually the same.
  """
  scratch = folder / _SCRATCH
  scratch.mkdir()
  source = sources.open_source(config, scratch, processes)
  if not len(source):
    raise settings.UserError(
      "config.corpus: the source has no documents; are its files empty?"
    )
  common_scratch = os.path.join(common, _SCRATCH)
  if common != folder:
    source = sources.shared(source, scratch, f"{common_scratch}/text")
  run = functools.partial(_with_progress, run, common_scratch)
  cleaned = None
  if config.clean.is_active:
    source, cleaned = cleaning.clean(
      source,
      config.clean,
      common_scratch,
      min(config.shards, len(source)),
      run,
    )
    if not len(source):
      raise settings.UserError(
        "config.corpus.clean: no document remains;"
        f" {report.most_removed(cleaned)}"
      )
  size = len(source)
  if size == 1 and config.eval_fraction:
    raise settings.UserError(
      "config.corpus.documents: the text is one document, and the eval split"
      " needs one; split the text into several documents (line or blank_line),"
      " or set config.corpus.eval_fraction=0"
    )
  job = tokenization.Job(
    source=source,
    sentences=config.sentences,
    folder=common,
    scratch=common_scratch,
    shards=min(config.shards, size),
    eval_threshold=tokenization.eval_threshold(size, config.eval_fraction),
    words=config.words,
  )
  tokenizer = _tokenizer(config, job, run)
  tokenizer.save(folder)
  counts = statistics.Statistics()
  tasks = [(job, shard, tokenizer) for shard in range(job.shards)]
  for part in run("tokens", tokenization.write_shard, tasks):
    counts = counts.merge(part)
  if common != folder:
    folders.download(common, folder)
  shutil.rmtree(scratch)
  for name, number, needed in (
    ("train on", counts.documents - counts.eval_documents, True),
    ("evaluate on", counts.eval_documents, bool(config.eval_fraction)),
  ):
    if needed and not number:
      raise settings.UserError(
        f"config.corpus: none of the {size:,} documents to {name} has any text"
      )
  wanted = len(tokenizer) if config.vocabulary else config.vocab_size
  manifest = {
    "format": shards.FORMAT_WITH_WORDS if config.words else shards.FORMAT,
    **made_from,
    "vocabulary_size": len(tokenizer),
    "report": report.figures(counts, len(tokenizer), wanted, cleaned),
    "splits": {
      split: _split_entry(folder, split, job.shards) for split in shards.SPLITS
    },
    "files": folders.file_entries(folder),
  }
  path = folder / shards.MANIFEST
  path.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
  return manifest


def _with_progress(
  run: workers.Runner,
  scratch: paths.Path,
  name: str,
  function: Callable[..., Any],
  tasks: Sequence[tuple[Any, ...]],
) -> Iterator[Any]:
  """Runs a function on tasks, with a progress bar on a terminal."""
  return rich.progress.track(
    run(function, tasks, f"{scratch}/{name}"),
    description=name,
    total=len(tasks),
    console=rich.console.Console(stderr=True),
    transient=True,
    disable=not sys.stderr.isatty(),
  )


def _tokenizer(
  config: CorpusConfig,
  job: tokenization.Job,
  run: Callable[..., Iterator[Any]],
) -> Tokenizer:
  """Loads the given tokenizer, or trains one on a sample of the documents."""
  if config.vocabulary is not None:
    return _load_tokenizer(config.vocabulary, config.lowercase)
  count, train = _TRAINERS[config.tokenizer](config)
  step = _sample_step(job.source, config.vocabulary_sample)
  counts: collections.Counter[str] = collections.Counter()
  tasks = [(job, shard, step, count) for shard in range(job.shards)]
  for part in run("words", tokenization.count_words, tasks):
    counts.update(part)
  try:
    return train(counts)
  except settings.UserError as error:
    raise settings.UserError(f"config.corpus.vocab_size: {error}") from None


_Counts = collections.Counter[str]
_Trainer = tuple[
  Callable[[Iterable[str]], _Counts], Callable[[_Counts], Tokenizer]
]


def _wordpiece(config: CorpusConfig) -> _Trainer:
  rules = WordRules(lowercase=config.lowercase is not False)
  return (
    functools.partial(wordpiece_trainer.count_words, rules=rules),
    lambda counts: WordPiece(
      wordpiece_trainer.train(counts, config.vocab_size), rules
    ),
  )


def _byte_level(config: CorpusConfig) -> _Trainer:
  return (
    byte_level_trainer.count_words,
    lambda counts: byte_level.of_merges(
      *byte_level_trainer.train(counts, config.vocab_size)
    ),
  )


_TRAINERS: Mapping[str, Callable[[CorpusConfig], _Trainer]] = {
  "wordpiece": _wordpiece,
  "byte_level": _byte_level,
}
"""How each kind of vocabulary is trained: counting words, and the rest."""


def _split_entry(
  folder: pathlib.Path, split: str, count: int
) -> dict[str, Any]:
  documents = shards.join_indices(folder, split, count)
  return {
    "documents": sum(documents),
    "shards": [
      {"file": shards.shard_name(split, shard, count), "documents": number}
      for shard, number in enumerate(documents)
    ],
  }


def _load_tokenizer(given: str, lowercase: bool | None) -> Tokenizer:
  """The tokenizer that `config.corpus.vocabulary` names.

  `lowercase` tells whether text is lower-cased, which a `vocab.txt` does not;
  None follows the files.
  """
  path = paths.local(given).expanduser()
  if path.suffix == ".txt" and lowercase is not None:
    return loading.from_vocabulary_file(path, WordRules(lowercase))
  tokenizer = text_lib.load(path)
  rules = getattr(tokenizer, "rules", None)
  if lowercase not in (None, rules and rules.lowercase):
    raise settings.UserError(
      f"config.corpus.lowercase: contradicts {path}; remove the key"
    )
  return tokenizer


def _describe_tokenizer(given: str | None) -> list[dict[str, Any]]:
  """Names, sizes and SHA-256 of the files of the given vocabulary, if any."""
  if given is None:
    return []
  path = paths.local(given).expanduser()
  text_lib.load(path)
  where = given if paths.is_remote(given) else str(path)
  if not path.is_dir():
    return files.describe([where])
  names = [name for name in tokenizer_files.NAMES if (path / name).is_file()]
  names += sorted(model.name for model in path.glob("*.model"))
  return files.describe([f"{where}/{name}" for name in names])


def _sample_step(source: sources.Source, characters: int) -> int:
  """The n for which every n-th document gives about `characters` in total."""
  size = len(source)
  probed = np.linspace(0, size - 1, min(size, _PROBED)).astype(int)
  mean = np.mean([len(source[i]["text"]) for i in probed.tolist()])
  return max(1, int(mean * size / characters))

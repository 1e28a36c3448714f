"""Tokenizer folders as people have them, against Transformers, by string.

Each folder is made by Transformers or by hand: with added tokens in every file
that may list them, with a `tokenizer.json` that has its own steps, with special
tokens by other names, with blank and repeated lines in `vocab.txt`. A
difference is a text whose ids or offsets are not those of `AutoTokenizer`.
"""

import functools
import json
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator

import tokenizers
import transformers
from tokenizers import (
  decoders,
  models,
  normalizers,
  pre_tokenizers,
  processors,
  trainers,
)

from bert_jax import text as text_lib
from bert_jax.text import wordpiece_trainer
from bert_jax.text.basic_tokenizer import WordRules
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.text.wordpiece import SPECIAL_TOKENS, WordPiece
from tests.parity import tokenizers_parity
from tests.parity.text_parity import texts

_MARKERS = ["<e1>", "</e1>", "Co-Vid"]
_SPECIAL = ["[E2]", "<ent>"]
_STYLES = {
  "BERT": dict(zip(("pad", "unk", "cls", "sep", "mask"), SPECIAL_TOKENS)),
  "RoBERTa": {
    "pad": "<pad>",
    "unk": "<unk>",
    "cls": "<s>",
    "sep": "</s>",
    "mask": "<mask>",
  },
}


def checks() -> Iterator[tuple[str, float, float]]:
  transformers.logging.set_verbosity_error()
  with tempfile.TemporaryDirectory() as scratch:
    for number, (name, make) in enumerate(_folders().items()):
      folder = pathlib.Path(scratch, str(number))
      folder.mkdir()
      theirs = make(folder)
      theirs = theirs or transformers.AutoTokenizer.from_pretrained(folder)
      ours = text_lib.load(folder)
      given = _marked(_known(ours, theirs))
      yield f"{name}: {len(given)} texts", _count(ours, theirs, given), 0
      ours.save(folder / "saved")
      again = transformers.AutoTokenizer.from_pretrained(folder / "saved")
      reopened = text_lib.load(folder / "saved")
      count = _count(reopened, again, given) + _count(ours, again, given)
      yield f"{name}: saved and reopened", count, 0


def _known(ours: Tokenizer, theirs: transformers.PreTrainedTokenizerFast):
  """Texts without the names of special tokens, on whose words both agree.

  The word rules of BERT are compared in `text_parity`.
  """
  roles = [
    ours.token(id) for id in vars(ours.special).values() if id is not None
  ]
  given = [t for t in texts()[::5] if not any(name in t for name in roles)]
  if not isinstance(ours, WordPiece):
    return given
  # Ours makes a final sigma, theirs does not.
  known = [
    text
    for text, ids in zip(given, theirs(given).input_ids)
    if ids == ours.encode(text).ids and "Σ" not in text
  ]
  assert len(known) > len(given) / 2
  return known


def _marked(given: list[str]) -> list[str]:
  """The texts, most with added tokens among their words."""
  names, found = [*_MARKERS, *_SPECIAL], []
  for number, text in enumerate(given):
    name, other = names[number % 5], names[number % 3]
    words = text.split(" ")
    middle = len(words) // 2
    found += [
      text,
      " ".join([*words[:middle], name, *words[middle:], other]),
      f"{name}{text}{other.upper()}",
      f"the {name} man {other}.",
    ]
  return found


def _count(
  ours: Tokenizer,
  theirs: transformers.PreTrainedTokenizerFast,
  given: list[str],
) -> int:
  """How many texts differ, as they are or with special tokens in them."""
  whole = ours.with_split_special_tokens(False)
  split = ours.with_split_special_tokens(True)
  special = f" {theirs.sep_token}{theirs.unk_token} {theirs.mask_token or ''}"
  typed = [text + special for text in given]
  # Theirs finds the names of pieces of a Unigram model in any text.
  is_unigram = isinstance(theirs.backend_tokenizer.model, models.Unigram)
  second = (given if is_unigram else typed)[::-1]
  single = theirs(given, return_offsets_mapping=True)
  pairs = theirs(given, second, split_special_tokens=True).input_ids
  theirs._tokenizer.encode_special_tokens = False
  typed_whole = theirs(typed).input_ids
  count = 0
  for n, text in enumerate(given):
    encoding = ours.encode(text)
    spans = single.offset_mapping[n]
    if not isinstance(ours, WordPiece):
      spans = [tokenizers_parity.without_space(text, *span) for span in spans]
      at = [tokenizers_parity.without_space(text, *x) for x in encoding.offsets]
      encoding = encoding._replace(offsets=at)
    different = (
      encoding.ids != single.input_ids[n]
      or encoding.offsets != spans
      or split.encode(text, second[n]).ids != pairs[n]
      or whole.encode(typed[n]).ids != typed_whole[n]
    )
    count += different
  return count


def _folders() -> dict[str, Callable[[pathlib.Path], object]]:
  made: dict[str, Callable[[pathlib.Path], object]] = {}
  families = {"BERT": _bert, "MPNet": _mpnet, **tokenizers_parity.FAMILIES}
  for family, publish in families.items():
    made |= {
      f"{family}, added": functools.partial(_added, publish),
      f"{family}, named in settings": functools.partial(_named, publish),
    }
  for family in ("BERT", "MPNet", "RoBERTa"):
    publish = families[family]
    made |= {
      f"{family}, older files": functools.partial(_older, publish),
      f"{family}, oldest files": functools.partial(_oldest, publish),
    }
  made["XLM-R, .model"] = _xlm_r_model
  made |= {f"steps: {name}": functools.partial(_steps, name) for name in _STEPS}
  return made | {
    "vocab.txt, blank lines": functools.partial(_lines, ["", ""]),
    "vocab.txt, repeated token": functools.partial(_lines, ["the", "##s"]),
    "vocab.txt, other names": _other_names,
    "vocab.txt, no mask": _no_mask,
  }


@functools.cache
def _vocabulary() -> list[str]:
  counts = wordpiece_trainer.count_words(texts(), WordRules())
  return list(
    wordpiece_trainer.train(counts, 2_000, min_frequency=3, coverage=0.998)
  )


def _write(folder: pathlib.Path, name: str, **content) -> None:
  (folder / name).write_text(json.dumps(content))


def _bert(folder: pathlib.Path) -> None:
  (folder / "vocab.txt").write_text("\n".join(_vocabulary()) + "\n")
  _write(folder, "config.json", model_type="bert")


def _mpnet(folder: pathlib.Path) -> None:
  tokens = ["<s>", "<pad>", "</s>", "<unk>", *_vocabulary(), "<mask>"]
  (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
  _write(folder, "config.json", model_type="mpnet")
  _write(folder, "tokenizer_config.json", tokenizer_class="MPNetTokenizer")


def _publish(publish, folder: pathlib.Path) -> None:
  """The folder of a family, with a `tokenizer.json`."""
  publish(folder)
  published = folder / "published"
  if published.is_dir():
    for path in published.iterdir():
      shutil.copy(path, folder)
    shutil.rmtree(published)
  else:
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    theirs.save_pretrained(folder)


def _added(publish, folder: pathlib.Path) -> None:
  """As Transformers saves a tokenizer to which tokens were added."""
  _publish(publish, folder)
  _add(folder, use_fast=True)


def _add(folder: pathlib.Path, use_fast: bool) -> None:
  theirs = transformers.AutoTokenizer.from_pretrained(folder, use_fast=use_fast)
  theirs.add_tokens(_MARKERS)
  theirs.add_special_tokens({"additional_special_tokens": _SPECIAL})
  theirs.save_pretrained(folder)


def _named(publish, folder: pathlib.Path) -> None:
  """Tokens that only the settings next to a `tokenizer.json` have."""
  _publish(publish, folder)
  path = folder / "tokenizer_config.json"
  settings = json.loads(path.read_text()) if path.exists() else {}
  more = [*_SPECIAL, *_MARKERS]
  settings["additional_special_tokens"] = more
  path.write_text(json.dumps(settings))


def _older(publish, folder: pathlib.Path) -> None:
  """The files of the Python tokenizers."""
  publish(folder)
  _add(folder, use_fast=False)


def _oldest(publish, folder: pathlib.Path) -> None:
  """The same without `added_tokens_decoder`, as before 2023."""
  _older(publish, folder)
  path = folder / "tokenizer_config.json"
  settings = json.loads(path.read_text())
  for key in ("added_tokens_decoder", "additional_special_tokens"):
    settings.pop(key, None)
  path.write_text(json.dumps(settings))


def _xlm_r_model(folder: pathlib.Path):
  """A `.model` with added tokens, against the published `tokenizer.json`."""
  tokenizers_parity.FAMILIES["XLM-R"](folder)
  published = folder / "published"
  theirs = transformers.AutoTokenizer.from_pretrained(published)
  theirs.add_tokens(_MARKERS)
  theirs.add_special_tokens({"additional_special_tokens": _SPECIAL})
  added = {name: theirs.convert_tokens_to_ids(name) for name in _MARKERS}
  added |= {name: theirs.convert_tokens_to_ids(name) for name in _SPECIAL}
  _write(folder, "added_tokens.json", **added)
  _write(folder, "special_tokens_map.json", additional_special_tokens=_SPECIAL)
  shutil.rmtree(published)
  return theirs


def _lines(more: list[str], folder: pathlib.Path) -> None:
  tokens = _vocabulary()
  assert set(more) <= {"", *tokens}
  (folder / "vocab.txt").write_text("\n".join([*tokens, *more]) + "\n")
  _write(folder, "config.json", model_type="bert")


def _other_names(folder: pathlib.Path) -> None:
  names = _STYLES["RoBERTa"]
  tokens = [*names.values(), *_vocabulary()[5:]]
  (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
  settings = {f"{role}_token": name for role, name in names.items()}
  _write(folder, "config.json", model_type="bert")
  _write(folder, "tokenizer_config.json", **settings)


def _no_mask(folder: pathlib.Path):
  tokens = [token for token in _vocabulary() if token != "[MASK]"]
  (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
  _write(folder, "config.json", model_type="bert")
  _write(folder, "tokenizer_config.json", mask_token=None)


_WORDS = pre_tokenizers.Whitespace()
_STEPS = {
  "NFD, lower case, no accents": (
    normalizers.Sequence(
      [normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()]
    ),
    _WORDS,
    models.WordPiece,
    "BERT",
  ),
  "NFKC": (
    normalizers.NFKC(),
    pre_tokenizers.BertPreTokenizer(),
    models.WordPiece,
    "RoBERTa",
  ),
  "digits": (
    normalizers.BertNormalizer(),
    pre_tokenizers.Sequence(
      [pre_tokenizers.Digits(True), pre_tokenizers.BertPreTokenizer()]
    ),
    models.WordPiece,
    "BERT",
  ),
  "accents kept": (
    normalizers.Lowercase(),
    pre_tokenizers.WhitespaceSplit(),
    models.WordPiece,
    "BERT",
  ),
  "BERT's with control characters": (
    normalizers.BertNormalizer(clean_text=False, strip_accents=False),
    pre_tokenizers.BertPreTokenizer(),
    models.WordPiece,
    "BERT",
  ),
  "no normalizer": (None, _WORDS, models.WordPiece, "RoBERTa"),
  "words": (normalizers.NFC(), _WORDS, models.WordLevel, "BERT"),
  "BPE of words": (normalizers.NFC(), _WORDS, models.BPE, "RoBERTa"),
  "Unigram": (
    normalizers.NFKC(),
    pre_tokenizers.Metaspace(),
    models.Unigram,
    "BERT",
  ),
}
_TRAINERS = {
  models.WordPiece: trainers.WordPieceTrainer,
  models.WordLevel: trainers.WordLevelTrainer,
  models.BPE: trainers.BpeTrainer,
  models.Unigram: trainers.UnigramTrainer,
}


def _steps(name: str, folder: pathlib.Path) -> None:
  """A `tokenizer.json` that was trained with the `tokenizers` library."""
  normalizer, splitter, model, style = _STEPS[name]
  names = _STYLES[style]
  options = {} if model is models.Unigram else {"unk_token": names["unk"]}
  backend = tokenizers.Tokenizer(model(**options))
  if normalizer is not None:
    backend.normalizer = normalizer
  backend.pre_tokenizer = splitter
  special = list(names.values())
  options = {"unk_token": names["unk"]} if model is models.Unigram else {}
  trainer = _TRAINERS[model](
    vocab_size=2_000, special_tokens=special, show_progress=False, **options
  )
  backend.train_from_iterator(texts(), trainer)
  cls, sep = names["cls"], names["sep"]
  backend.post_processor = processors.TemplateProcessing(
    single=f"{cls} $A {sep}",
    pair=f"{cls} $A {sep} $B:1 {sep}:1",
    special_tokens=[(x, backend.token_to_id(x)) for x in (cls, sep)],
  )
  if model is models.WordPiece:
    backend.decoder = decoders.WordPiece()
  theirs = transformers.PreTrainedTokenizerFast(
    tokenizer_object=backend,
    **{f"{role}_token": token for role, token in names.items()},
  )
  theirs.add_tokens(_MARKERS)
  theirs.add_special_tokens({"additional_special_tokens": _SPECIAL})
  theirs.save_pretrained(folder)

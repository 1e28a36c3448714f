"""Tokenizers of the families after BERT against Transformers'.

Each is trained on the texts it is compared on, put into the files that its
family is published in, and opened by both. A difference is a text whose ids
or offsets are not the same. RoBERTa's Python class is compared too; those of
ALBERT and XLM-R differ from their own fast ones.
"""

import io
import json
import pathlib
import tempfile
from collections.abc import Callable, Iterator

import sentencepiece
import tokenizers
import transformers
from tokenizers import pre_tokenizers

from bert_jax import text as text_lib
from bert_jax.text.tokenizer import Tokenizer, truncate
from tests.parity.text_parity import texts
from tests.text import small_files
from tests.text.strings import MULTILINGUAL

_LENGTHS = (4, 7, 10, 16, 31)
_SPACES = pre_tokenizers.Sequence(
  [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
)


def checks() -> Iterator[tuple[str, float, float]]:
  transformers.logging.set_verbosity_error()
  with tempfile.TemporaryDirectory() as scratch:
    for family, publish in FAMILIES.items():
      folder = pathlib.Path(scratch, family)
      folder.mkdir()
      slow = publish(folder)
      ours = text_lib.load(folder)
      published = folder / "published"
      theirs = _auto(published if published.is_dir() else folder)
      given = [text for text in texts() if not _names(ours, text)]
      for name, count in _differences(ours, theirs, given).items():
        yield f"{family}: {name}", count, 0
      if slow is not None:
        count = sum(
          slow(text, text).input_ids != ours.encode(text, text).ids
          for text in MULTILINGUAL
        )
        yield f"{family}: {len(MULTILINGUAL)} pairs, Python class", count, 0
      ours.save(folder / "saved")
      reopened = _differences(ours, _auto(folder / "saved"), given)
      yield f"{family}: saved and reopened", sum(reopened.values()), 0


def _auto(folder: pathlib.Path) -> transformers.PreTrainedTokenizerFast:
  return transformers.AutoTokenizer.from_pretrained(folder)


def _names(ours: Tokenizer, text: str) -> bool:
  """Whether a special token's name is in a text; there, theirs differs."""
  return any(ours.token(id) in text for id in vars(ours.special).values())


def _differences(
  ours: Tokenizer,
  theirs: transformers.PreTrainedTokenizerFast,
  given: list[str],
) -> dict[str, int]:
  """How many texts differ, in each way of encoding."""
  mask = theirs.mask_token
  masked = [f" {mask}".join(text.split(" ")[::2]) + mask for text in given]
  # Theirs takes an empty pair for none.
  pairs = [pair for pair in zip(given, given[7:]) if pair[1]]
  cut = [(*pair, length) for pair in pairs[::5] for length in _LENGTHS]

  def spans(text: str) -> list[tuple[int, int]]:
    found = theirs(text, return_offsets_mapping=True).offset_mapping
    return [without_space(text, *span) for span in found]

  def count(differs: Callable[..., bool], rows: list[tuple]) -> int:
    return sum(differs(*row) for row in rows)

  singles = [(text,) for text in given]
  return {
    f"{len(singles)} texts": count(
      lambda a: theirs(a).input_ids != ours.encode(a).ids, singles
    ),
    f"{len(singles)} offsets": count(
      lambda a: spans(a) != ours.encode(a).offsets, singles
    ),
    f"{len(pairs)} pairs": count(
      lambda a, b: theirs(a, b).input_ids != ours.encode(a, b).ids, pairs
    ),
    f"{len(masked)} masked": count(
      lambda a: theirs(a).input_ids != ours.encode_masked(a).ids,
      [(text,) for text in masked],
    ),
    f"{len(cut)} truncated pairs": count(
      lambda a, b, n: (
        theirs(a, b, truncation=True, max_length=n).input_ids
        != truncate(ours.encode(a, b), n, ours.special).ids
      ),
      cut,
    ),
  }


def without_space(text: str, start: int, end: int) -> tuple[int, int]:
  """A span less the white space at its ends, which ours always leaves out."""
  inner = text[start:end].strip()
  if not inner:
    return start, end
  start = text.index(inner, start)
  return start, start + len(inner)


def _byte_level(vocab_size: int) -> tuple[dict[str, int], list[list[str]]]:
  backend = tokenizers.ByteLevelBPETokenizer()
  backend.train_from_iterator(texts(), vocab_size, show_progress=False)
  model = json.loads(backend.to_str())["model"]
  merges = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
  return model["vocab"], merges


def _roberta(folder: pathlib.Path) -> transformers.PreTrainedTokenizer:
  vocab, merges = _byte_level(2_000)
  tokens = ["<s>", "<pad>", "</s>", "<unk>", *sorted(vocab, key=vocab.get)]
  ids = {token: id for id, token in enumerate([*tokens, "<mask>"])}
  (folder / "vocab.json").write_text(json.dumps(ids))
  lines = ["#version: 0.2", *map(" ".join, merges), ""]
  (folder / "merges.txt").write_text("\n".join(lines))
  (folder / "config.json").write_text('{"model_type": "roberta"}')
  return transformers.RobertaTokenizer.from_pretrained(folder)


def _modernbert(folder: pathlib.Path) -> None:
  small_files.modernbert(folder)
  path = folder / "tokenizer.json"
  content = json.loads(path.read_text())
  old = len(content["model"]["vocab"])
  vocab, merges = _byte_level(2_000)
  content["model"] |= {"vocab": vocab, "merges": merges}
  more = len(vocab) - old
  for token in content["added_tokens"]:
    token["id"] += more
  for token in content["post_processor"]["special_tokens"].values():
    token["ids"] = [id + more for id in token["ids"]]
  path.write_text(json.dumps(content))


def _albert(folder: pathlib.Path) -> None:
  lowered = [text.lower() for text in texts()]
  (folder / "spiece.model").write_bytes(
    _unigram(
      lowered,
      pad_id=0,
      unk_id=1,
      bos_id=-1,
      eos_id=-1,
      control_symbols=["[CLS]", "[SEP]", "[MASK]"],
      user_defined_symbols=list('()"-.–£€'),
    )
  )
  fast = transformers.AlbertTokenizerFast(str(folder / "spiece.model"))
  _publish(folder, fast, "albert", steps=slice(-1))


def _xlm_r(folder: pathlib.Path) -> None:
  path = folder / "sentencepiece.bpe.model"
  path.write_bytes(_unigram(texts()))
  fast = transformers.XLMRobertaTokenizerFast(str(path))
  _publish(folder, fast, "xlm-roberta", steps=slice(1))


def _deberta(folder: pathlib.Path) -> None:
  (folder / "spm.model").write_bytes(
    _unigram(
      texts(),
      pad_id=0,
      bos_id=1,
      eos_id=2,
      unk_id=3,
      pad_piece="[PAD]",
      bos_piece="[CLS]",
      eos_piece="[SEP]",
      unk_piece="[UNK]",
      user_defined_symbols=["%", "(c)"],
    )
  )
  (folder / "config.json").write_text('{"model_type": "deberta-v2"}')


def _unigram(given: list[str], **options) -> bytes:
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(given),
    model_writer=model,
    vocab_size=1_500,
    hard_vocab_limit=False,
    minloglevel=2,
    **options,
  )
  return model.getvalue()


# Transformers made the published `tokenizer.json` files in 2020; what it makes
# of a lone model today has other steps: see bert_jax.text.sentencepiece.
def _publish(
  folder: pathlib.Path,
  fast: transformers.PreTrainedTokenizerFast,
  model_type: str,
  steps: slice,
) -> None:
  """Writes the `tokenizer.json` that the family's checkpoints have."""
  content = json.loads(fast.backend_tokenizer.to_str())
  listed = content["added_tokens"]
  content["added_tokens"] = [token for token in listed if token["special"]]
  normalizers = content["normalizer"]["normalizers"]
  content["normalizer"]["normalizers"] = normalizers[steps]
  backend = tokenizers.Tokenizer.from_str(json.dumps(content))
  backend.pre_tokenizer = _SPACES
  published = folder / "published"
  published.mkdir()
  backend.save(str(published / "tokenizer.json"))
  settings = {"model_type": model_type}
  (published / "config.json").write_text(json.dumps(settings))


FAMILIES = {
  "RoBERTa": _roberta,
  "ModernBERT": _modernbert,
  "ALBERT": _albert,
  "XLM-R": _xlm_r,
  "DeBERTa": _deberta,
}

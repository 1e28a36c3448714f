import collections
import itertools
import json
import os
import random

import hypothesis
import tokenizers
from hypothesis import strategies
from tokenizers import models, pre_tokenizers, trainers

from bert_jax import text
from bert_jax.text import byte_level, byte_level_trainer
from bert_jax.text.byte_level_trainer import SPECIAL_TOKENS
from tests.commands import python
from tests.errors import user_error
from tests.text.strings import MULTILINGUAL, TEXTS

COUNTS = byte_level_trainer.count_words(MULTILINGUAL * 3)
LEAST = len(SPECIAL_TOKENS) + 256


def merge_slowly(counts, number):
  """Pair merging with every count made anew at every step."""
  spelling = {word: tuple(word) for word in counts}
  merges = []
  for _ in range(number):
    pairs = collections.Counter()
    for word, parts in spelling.items():
      for pair in itertools.pairwise(parts):
        pairs[pair] += counts[word]
    if not pairs:
      break
    best = min(pairs, key=lambda pair: (-pairs[pair], pair))
    if pairs[best] < 2:
      break
    merges.append(best)
    for word, parts in spelling.items():
      out = []
      for part in parts:
        if out and (out[-1], part) == best:
          out[-1] += part
        else:
          out.append(part)
      spelling[word] = tuple(out)
  return merges


@hypothesis.settings(max_examples=100)
@hypothesis.given(
  strategies.dictionaries(
    strategies.text("abc", min_size=1, max_size=9),
    strategies.integers(1, 6),
    min_size=1,
    max_size=12,
  )
)
def test_merges_equal_those_of_a_slow_trainer(counts):
  tokens, merges = byte_level_trainer.train(counts, 10_000)
  assert merges == merge_slowly(counts, len(merges) + 1)
  joined = dict.fromkeys(map("".join, merges))
  assert tokens[LEAST:] == tuple(joined)


def test_a_text_trains_as_many_tokens_as_in_the_library():
  backend = tokenizers.Tokenizer(models.BPE())
  backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
  trainer = trainers.BpeTrainer(
    vocab_size=400,
    min_frequency=2,
    special_tokens=list(SPECIAL_TOKENS),
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  backend.train_from_iterator(MULTILINGUAL * 3, trainer)
  tokens, merges = byte_level_trainer.train(COUNTS, 400)
  theirs = json.loads(backend.to_str())["model"]
  assert len(tokens) == len(theirs["vocab"]) == 400
  assert {*tokens[:LEAST]} <= theirs["vocab"].keys()
  # Ties differ; most merges are the same.
  same = {*merges} & {tuple(pair) for pair in theirs["merges"]}
  assert len(same) > 0.7 * len(merges)


def test_order_of_the_counts_and_the_hash_seed_do_not_matter():
  items = list(COUNTS.items())
  want = byte_level_trainer.train(COUNTS, 500)
  random.Random(0).shuffle(items)
  assert byte_level_trainer.train(dict(items), 500) == want
  program = (
    "from bert_jax.text import byte_level_trainer;"
    "from tests.text.strings import MULTILINGUAL;"
    "counts = byte_level_trainer.count_words(MULTILINGUAL * 3);"
    "print(ascii(byte_level_trainer.train(counts, 500)))"
  )
  result = python(program, env=os.environ | {"PYTHONHASHSEED": "1"})
  assert result.stdout.strip() == ascii(want)


def test_decoding_gives_back_what_was_encoded(tmp_path):
  tokenizer = byte_level.of_merges(*byte_level_trainer.train(COUNTS, 500))
  code = "def f(x):\n    return  {x: 'A-b'}\t# Ünï"
  tokenizer.save(tmp_path)
  loaded = text.load(tmp_path)
  for given in (*TEXTS, code):
    ids = tokenizer.encode(given).ids
    assert loaded.encode(given).ids == ids
    clean = given.encode("utf-8", "replace").decode()
    if given == clean:
      # The first word is encoded with a space.
      assert loaded.decode(ids) in (given, f" {given}")


def test_what_cannot_be_trained():
  with user_error("no words"):
    byte_level_trainer.train({}, 500)
  with user_error(f"size 200 is too small.* need {LEAST}"):
    byte_level_trainer.train({"a": 3}, 200)
  with user_error("expected a list of strings"):
    byte_level_trainer.count_words("abc")

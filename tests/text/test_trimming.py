"""Vocabularies without the tokens that texts do not need."""

import numpy as np
import pytest

from bert_jax import text
from tests.text import small_files, strings

FAMILIES = ("wordpiece", "roberta", "modernbert", "albert", "xlm_r", "deberta")


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_have_the_same_tokens(tmp_path, family):
  folder = tmp_path / family
  folder.mkdir()
  getattr(small_files, family)(folder)
  tokenizer = text.load(folder)
  texts = [x for x in strings.TEXTS if x.strip()][:20]
  trimmed, kept = tokenizer.trimmed(texts)
  assert len(trimmed) == len(kept) <= len(tokenizer)
  assert [trimmed.token(i) for i in range(len(kept))] == [
    tokenizer.token(i) for i in kept
  ]
  for given in texts:
    full, own = tokenizer.encode(given, given), trimmed.encode(given, given)
    assert np.array(kept)[own.ids].tolist() == full.ids
    assert own[1:] == full[1:]
  trimmed.save(tmp_path / "saved")
  again = text.load(tmp_path / "saved")
  assert again.encode(texts[0]) == trimmed.encode(texts[0])


def test_a_text_of_characters_alone_needs_few_tokens(tmp_path):
  tmp_path.joinpath("x").mkdir()
  small_files.wordpiece(tmp_path / "x")
  tokenizer = text.load(tmp_path / "x")
  trimmed, kept = tokenizer.trimmed(["a"])
  assert len(kept) < len(tokenizer)
  special = trimmed.special
  assert trimmed.encode("a").ids[0] == special.cls

import json
import pickle

import pytest
import sentencepiece
import tokenizers

from bert_jax.text import load
from bert_jax.text.tokenizer import Encoding, truncate
from tests.errors import user_error
from tests.text import small_files
from tests.text.strings import TEXTS

BY_FAMILY = pytest.mark.parametrize("family", small_files.FAMILIES)
# The same, and WordPiece.
EVERY = {**small_files.FAMILIES, "wordpiece": small_files.wordpiece}
BY_EVERY = pytest.mark.parametrize("family", EVERY)


@pytest.fixture(scope="module")
def make(tmp_path_factory):
  loaded = {}

  def tokenizer(family):
    if family not in loaded:
      folder = tmp_path_factory.mktemp(family)
      loaded[family] = load(EVERY[family](folder))
    return loaded[family]

  return tokenizer


def pieces(tokenizer, encoding):
  return " ".join(map(tokenizer.token, encoding.ids))


@pytest.mark.parametrize(
  ("family", "text", "want"),
  [
    ("roberta", "the dog, the cat", "<s> t he Ġdog , Ġthe Ġcat </s>"),
    ("roberta", " the  dog", "<s> Ġthe Ġ Ġdog </s>"),
    ("roberta", "é\n9", "<s> Ã © Ċ 9 </s>"),
    ("modernbert", "the dog", "[CLS] t he Ġdog [SEP]"),
    ("modernbert", "a   |||EMAIL|||é", "[CLS] a     |||EMAIL||| Ã © [SEP]"),
    ("modernbert", "e\u0301", "[CLS] Ã © [SEP]"),
    ("albert", "The DÓGS, ``s''", '[CLS] ▁the ▁dog s , ▁ " s " [SEP]'),
    ("albert", "9, 9,9 a-a", "[CLS] ▁9 , ▁9 , 9 ▁a - <unk> [SEP]"),
    ("albert", " the\u3000\n dog ", "[CLS] ▁the ▁dog [SEP]"),
    ("xlm_r", "the The cafe\u0301 a", "<s> ▁the ▁The ▁café ▁ a </s>"),
    ("xlm_r", "ﬁ漢字", "<s> ▁ fi <unk> </s>"),
    ("deberta", " The  dogs, a-a\n", "[CLS] ▁The ▁dog s , ▁a - ▁a [SEP]"),
    ("deberta", "ﬁ漢9", "[CLS] ▁ fi [UNK] 9 [SEP]"),
  ],
)  # fmt: skip
def test_pieces_are_those_of_transformers(make, family, text, want):
  # `want` is what the AutoTokenizer of Transformers 4.57 gives.
  tokenizer = make(family)
  assert pieces(tokenizer, tokenizer.encode(text)) == want
  inner = tokenizer.encode(text).ids[1:-1]
  assert tokenizer.encode_pieces([text, ""]) == [inner, []]


@pytest.mark.parametrize(
  ("family", "want"),
  [
    ("roberta", "<s> t he Ġdog </s> </s> t he Ġcat </s>"),
    ("modernbert", "[CLS] t he Ġdog [SEP] t he Ġcat [SEP]"),
    ("albert", "[CLS] ▁the ▁dog [SEP] ▁the ▁cat [SEP]"),
    ("xlm_r", "<s> ▁the ▁dog </s> </s> ▁the ▁ <unk> a <unk> </s>"),
    ("deberta", "[CLS] ▁the ▁dog [SEP] ▁the ▁cat [SEP]"),
  ],
)
def test_pairs(make, family, want):
  tokenizer = make(family)
  encoding = tokenizer.encode("the dog", "the cat")
  assert pieces(tokenizer, encoding) == want
  first = encoding.ids.index(tokenizer.special.sep) + 1
  rest = len(encoding.ids) - first
  assert encoding.segments == [0] * first + [1] * rest
  assert encoding.offsets[:first] == tokenizer.encode("the dog").offsets
  pair = tokenizer.encode("the cat")
  assert encoding.offsets[1 - len(pair.ids) :] == pair.offsets[1:]
  empty = tokenizer.encode("", "")
  assert empty.segments == [0, 0, *[1] * (len(empty.ids) - 2)]


@BY_EVERY
def test_added_tokens_stay_whole(tmp_path, family):
  folder = EVERY[family](tmp_path)
  size = len(load(folder))
  small_files.settings(
    folder,
    "special_tokens_map.json",
    additional_special_tokens=["<e1>", {"content": "</e1>", "lstrip": True}],
  )
  tokenizer = load(folder)
  assert len(tokenizer) == size + 2
  assert not tokenizer.continuations[size:].any()
  text = "the<e1> dog </e1>, the <E1>"
  ids = tokenizer.encode(text).ids
  assert [id for id in ids if id >= size] == [size, size + 1]
  assert tokenizer.encode_pieces([text]) == [ids[1:-1]]
  split = tokenizer.with_split_special_tokens(True)
  assert not {size, size + 1} & {*split.encode(text).ids}
  tokenizer.save(tmp_path / "saved")
  again = load(tmp_path / "saved")
  assert again.tokens == tokenizer.tokens
  assert again.encode(text, text) == tokenizer.encode(text, text)


@BY_EVERY
def test_the_switch_of_special_tokens_in_text(make, family, tmp_path):
  tokenizer = make(family)
  name = {
    role: tokenizer.token(id) for role, id in vars(tokenizer.special).items()
  }
  text = f"the {name['sep']} {name['mask']} dog"
  whole = tokenizer.with_split_special_tokens(False)
  encoding = whole.encode(text, text)
  ids = encoding.ids
  assert ids.count(tokenizer.special.mask) == 2
  frame = tokenizer.encode("", "").ids
  assert ids.count(tokenizer.special.sep) == 2 + frame.count(
    tokenizer.special.sep
  )
  first = len(whole.encode(text).ids)
  assert encoding.segments == [0] * first + [1] * (len(ids) - first)
  short = truncate(encoding, len(frame) + 2, tokenizer.special)
  assert len(short.ids) == len(frame) + 2
  whole.save(tmp_path)
  assert load(tmp_path).encode(text, text) == encoding
  assert tokenizer.encode(text) == whole.with_split_special_tokens(None).encode(
    text
  )


@BY_FAMILY
def test_the_mask_takes_the_space_before_it(make, family):
  tokenizer = make(family)
  special = tokenizer.special
  mask = tokenizer.token(special.mask)
  text = f"the \t{mask} the{mask}{mask}"
  encoding = tokenizer.encode_masked(text)
  places = [i for i, id in enumerate(encoding.ids) if id == special.mask]
  spans = [encoding.offsets[place] for place in places]
  assert [text[start:end] for start, end in spans] == [mask] * 3
  assert places == [places[0], len(encoding.ids) - 3, len(encoding.ids) - 2]
  # The space is the mask's: the text before it ends as if at its end.
  assert encoding.ids[: places[0]] == tokenizer.encode("the").ids[:-1]
  assert encoding.segments == [0] * len(encoding.ids)
  assert tokenizer.encode_masked("the dog") == tokenizer.encode("the dog")


@BY_EVERY
def test_a_literal_special_token_is_text(make, family):
  tokenizer = make(family)
  special = vars(tokenizer.special)
  frame = tokenizer.encode("").ids
  text = " ".join(tokenizer.token(id) for id in special.values())
  without = {special[role] for role in ("pad", "cls", "sep", "mask")}
  assert not without & set(tokenizer.encode_pieces([text + "s"])[0])
  for encoding in (tokenizer.encode(text), tokenizer.encode(text, text)):
    assert encoding.offsets[-2][1] == len(text)
  masked = tokenizer.encode_masked(text).ids
  assert masked.count(special["mask"]) == 1
  assert masked[0] == frame[0]
  assert set(masked[1:-1]) & without == {special["mask"]}


@BY_EVERY
def test_every_text_keeps_its_offsets_inside_it(make, family):
  tokenizer = make(family)
  for text in TEXTS:
    encoding = tokenizer.encode(text)
    assert encoding.ids[1:-1] == tokenizer.encode_pieces([text])[0]
    spans = encoding.offsets[1:-1]
    assert spans == sorted(spans)
    for start, end in spans:
      assert 0 <= start <= end <= len(text)
      covered = text[start:end]
      assert covered == covered.strip() or not covered.strip()


def test_bytes_make_every_text_again(make):
  tokenizer = make("roberta")
  for text, ids in zip(TEXTS, tokenizer.encode_pieces(TEXTS)):
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("family", ["albert", "xlm_r"])
def test_ids_equal_those_of_sentencepiece(tmp_path, make, family):
  folder = small_files.FAMILIES[family](tmp_path)
  (path,) = folder.iterdir()
  plain = sentencepiece.SentencePieceProcessor(model_file=str(path))
  tokenizer = make(family)
  for text in (
    "the dog, the cats",
    "-the- 'dogs'",
    "  the\u00a0dog ",
    "a 9 9 ﬁ",
  ):
    ids = plain.encode(text)
    if family == "xlm_r":  # Those of fairseq.
      ids = [id + 1 if id else 3 for id in ids]
    assert tokenizer.encode_pieces([text]) == [ids], text


@BY_EVERY
def test_what_is_saved_loads_here_and_elsewhere(tmp_path, family):
  folder = EVERY[family](tmp_path / "published")
  tokenizer = load(folder)
  tokenizer.save(tmp_path / "new" / "folder")
  saved = tmp_path / "new" / "folder"
  for file in folder.iterdir():
    if file.name != "tokenizer_config.json":
      assert (saved / file.name).read_bytes() == file.read_bytes()
  other = tokenizers.Tokenizer.from_file(str(saved / "tokenizer.json"))
  names = [tokenizer.token(id) for id in vars(tokenizer.special).values()]
  again = load(saved)
  copy = pickle.loads(pickle.dumps(tokenizer))
  for text in TEXTS:
    want = tokenizer.encode(text, "the dog")
    assert again.encode(text, "the dog") == want
    assert copy.encode(text, "the dog") == want
    if not any(name in text for name in names):
      assert other.encode(text, "the dog").ids == want.ids
  again.save(tmp_path / "again")
  for file in saved.iterdir():
    data = tmp_path / "again" / file.name
    if file.name in ("tokenizer.json", "tokenizer_config.json"):
      assert data.read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
  ("family", "name"),
  [
    ("roberta", "RobertaTokenizer"),
    ("modernbert", "PreTrainedTokenizerFast"),
    ("albert", "AlbertTokenizer"),
    ("xlm_r", "XLMRobertaTokenizer"),
    ("deberta", "DebertaV2Tokenizer"),
  ],
)
def test_the_saved_settings_name_transformers_class(
  tmp_path, make, family, name
):
  tokenizer = make(family)
  tokenizer.save(tmp_path)
  path = tmp_path / "tokenizer_config.json"
  settings = json.loads(path.read_text())
  assert settings["tokenizer_class"] == name
  mask = tokenizer.token(tokenizer.special.mask)
  assert settings["mask_token"] == mask
  # Without the settings the class follows from the other file.
  path.unlink()
  load(tmp_path).save(tmp_path)
  assert json.loads(path.read_text())["tokenizer_class"] == name


@BY_FAMILY
def test_continuations_and_decoding(make, family):
  tokenizer = make(family)
  special = set(vars(tokenizer.special).values())
  words = {"modernbert": "|||EMAIL|||", "deberta": "-"}
  assert tokenizer.continuations.shape == (len(tokenizer),)
  for id in range(len(tokenizer)):
    starts = tokenizer.token(id)[0] in "Ġ▁ "
    added = id in special or tokenizer.token(id) == words.get(family)
    assert tokenizer.continuations[id] == (not added and not starts)
  ids = tokenizer.encode("the dog, the dogs").ids
  assert tokenizer.decode(ids) == "the dog, the dogs"
  assert tokenizer.decode([]) == ""
  for id in (-1, len(tokenizer)):
    with pytest.raises(IndexError, match=str(id)):
      tokenizer.token(id)
    with pytest.raises(IndexError, match=str(id)):
      tokenizer.decode([id])


@BY_EVERY
def test_what_is_not_text(make, family):
  tokenizer = make(family)
  for bad in (None, 3, b"bytes", ("a", "b")):
    with user_error("text: expected a string"):
      tokenizer.encode(bad)
    with user_error("text: expected a string"):
      tokenizer.encode_masked(bad)
    with user_error(r"texts\[1\]: expected a string"):
      tokenizer.encode_pieces(["a", bad])
  with user_error("pair: expected a string"):
    tokenizer.encode("a", 3)
  with user_error("got one string"):
    tokenizer.encode_pieces("ab")
  assert tokenizer.encode("a\ud800 s").offsets[-2] == (3, 4)


@BY_EVERY
def test_truncation_and_padding_of_the_file_are_not_heeded(
  tmp_path, make, family
):
  tokenizer = make(family)
  tokenizer.save(tmp_path)
  other = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
  other.enable_truncation(4)
  other.enable_padding(length=50)
  other.save(str(tmp_path / "tokenizer.json"))
  assert load(tmp_path).encode(TEXTS[0]) == tokenizer.encode(TEXTS[0])
  assert isinstance(tokenizer.encode("a"), Encoding)

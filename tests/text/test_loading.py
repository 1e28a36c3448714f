import json
import pickle
import shutil

import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

from bert_jax.text import load
from bert_jax.text.basic_tokenizer import WordRules
from bert_jax.text.loading import from_vocabulary_file
from bert_jax.text.tokenizer import SpecialIds, mask_name
from bert_jax.text.wordpiece import MPNET_TOKENS, SPECIAL_TOKENS, WordPiece
from tests.errors import user_error
from tests.text import small_files

TOKENS = [*SPECIAL_TOKENS, "the", "##re", "\u2028", "é", "e"]


def write(path, tokens=TOKENS, newline="\n"):
  path.write_bytes("".join(token + newline for token in tokens).encode())
  return path


def write_json(path, **changes):
  """A `tokenizer.json` as Hugging Face writes it, with some changes."""
  backend = tokenizers.Tokenizer(
    models.WordPiece({token: id for id, token in enumerate(TOKENS)})
  )
  backend.normalizer = normalizers.BertNormalizer(lowercase=False)
  backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
  backend.post_processor = processors.BertProcessing(
    ("[SEP]", TOKENS.index("[SEP]")), ("[CLS]", TOKENS.index("[CLS]"))
  )
  path.write_text(json.dumps(json.loads(backend.to_str()) | changes))
  return path


@pytest.mark.parametrize(
  "rules",
  [
    WordRules(),
    WordRules(lowercase=False),
    WordRules(strip_accents=False, split_cjk=False),
    WordRules(lowercase=False, strip_accents=True),
  ],
)
def test_saved_and_loaded(tmp_path, rules):
  tokenizer = WordPiece(TOKENS, rules)
  tokenizer.save(tmp_path / "new" / "folder")
  loaded = load(tmp_path / "new" / "folder")
  assert loaded.tokens == tokenizer.tokens
  assert loaded.rules == rules
  loaded.save(tmp_path / "again")
  for file in (tmp_path / "again").iterdir():
    saved = tmp_path / "new" / "folder" / file.name
    assert file.read_bytes() == saved.read_bytes()
  (tmp_path / "again" / "tokenizer.json").unlink()
  assert load(tmp_path / "again").rules == rules


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_vocabulary_file(tmp_path, newline):
  path = write(tmp_path / "vocab.txt", newline=newline)
  for given in (path, str(path), tmp_path):
    loaded = load(given)
    assert loaded.tokens == tuple(TOKENS)
    assert loaded.rules == WordRules()
  path.write_bytes(path.read_bytes().removesuffix(newline.encode()))
  assert load(path).tokens == tuple(TOKENS)


def test_upper_case_pieces_mean_that_case_is_kept(tmp_path):
  assert not load(write(tmp_path / "a.txt", [*TOKENS, "##The"])).rules.lowercase
  assert load(write(tmp_path / "a.txt", TOKENS)).rules.lowercase
  rules = WordRules(lowercase=True)
  path = write(tmp_path / "a.txt", [*TOKENS, "The"])
  assert from_vocabulary_file(path, rules).rules == rules


def test_config_beside_the_vocabulary_decides(tmp_path):
  write(tmp_path / "vocab.txt", [*TOKENS, "The"])
  small_files.settings(tmp_path, do_lower_case=True, strip_accents=False)
  assert load(tmp_path).rules == WordRules(strip_accents=False)


def test_json_of_hugging_face(tmp_path):
  write_json(tmp_path / "tokenizer.json")
  loaded = load(tmp_path)
  assert loaded.tokens == tuple(TOKENS)
  assert not loaded.rules.lowercase
  added = [{"content": "[NEW]", "id": len(TOKENS)}, {"content": "e", "id": 9}]
  write_json(tmp_path / "tokenizer.json", added_tokens=added)
  assert load(tmp_path).tokens == (*TOKENS, "[NEW]")


def test_files_that_agree(tmp_path):
  write_json(tmp_path / "tokenizer.json")
  write(tmp_path / "vocab.txt")
  assert load(tmp_path).tokens == tuple(TOKENS)
  added = [{"content": "[NEW]", "id": len(TOKENS)}]
  write_json(tmp_path / "tokenizer.json", added_tokens=added)
  assert load(tmp_path).tokens == (*TOKENS, "[NEW]")


@pytest.mark.parametrize(
  ("tokens", "message"),
  [
    ([*TOKENS, "more"], "'more' has the id 10 here, but None in"),
    (TOKENS[:-1], "'e' has the id None here, but 9 in tokenizer.json"),
    ([*TOKENS[:-2], "e", "é"], "'é' has the id 9 here, but 8 in"),
  ],
)
def test_files_that_disagree(tmp_path, tokens, message):
  write_json(tmp_path / "tokenizer.json")
  write(tmp_path / "vocab.txt", tokens)
  with user_error(rf"vocab\.txt: {message}"):
    load(tmp_path)
  assert load(tmp_path / "tokenizer.json").tokens == tuple(TOKENS)


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_byte_level_files_that_disagree(tmp_path, name):
  load(small_files.roberta(tmp_path)).save(tmp_path)
  load(tmp_path)
  path = tmp_path / name
  text = path.read_text(encoding="utf-8")
  changes = {
    "vocab.json": ('"<s>": 0', '"<S>": 0'),
    "merges.txt": ("h e\n", ""),
  }
  path.write_text(text.replace(*changes[name]), encoding="utf-8")
  with user_error(rf"{name}: .*tokenizer\.json of the same"):
    load(tmp_path)


def pickled(tokenizer):
  return pickle.loads(pickle.dumps(tokenizer))


def test_added_tokens_are_found_in_text(tmp_path):
  flags = dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
  added = [
    {"id": 10, "content": "Co-Vid", "normalized": True, "special": False},
    {"id": 11, "content": "[E1]", "normalized": False, "special": True},
  ]
  write_json(
    tmp_path / "tokenizer.json", added_tokens=[flags | token for token in added]
  )
  tokenizer = load(tmp_path)
  assert tokenizer.encode_pieces(["eco-vidthe", "e Co-Vid"])[1] == [9, 10]
  assert tokenizer.encode_pieces(["e[E1] e"]) == [[9, 11, 9]]
  assert 10 in tokenizer.encode_masked("[MASK] Co-Vid").ids
  tokenizer.save(tmp_path / "saved")
  for copy in (load(tmp_path / "saved"), pickled(tokenizer)):
    assert copy.encode("e Co-Vid [E1]") == tokenizer.encode("e Co-Vid [E1]")


def test_added_tokens_without_a_tokenizer_json(tmp_path):
  write(tmp_path / "vocab.txt")
  (tmp_path / "added_tokens.json").write_text('{"[NEW]": 10}')
  tokenizer = load(tmp_path)
  assert tokenizer.encode_pieces(["e [NEW]"]) == [[9, 10]]
  added = {"9": {"content": "e"}, "12": {"content": "x"}}
  small_files.settings(tmp_path, added_tokens_decoder=added)
  with user_error("added token 'x' has the id 12"):
    load(tmp_path)
  small_files.settings(tmp_path, added_tokens_decoder={"nine": added["9"]})
  with user_error("expected the id of an added token"):
    load(tmp_path)


def steps(normalizer=None, pre_tokenizer=None):
  """The changes to a `tokenizer.json` with steps that are not BERT's."""
  given = {"normalizer": normalizer, "pre_tokenizer": pre_tokenizer}
  return {
    name: json.loads(step.__getstate__())
    for name, step in given.items()
    if step is not None
  }


@pytest.mark.parametrize(
  ("changes", "text", "want"),
  [
    (
      steps(
        normalizers.Sequence(
          [
            normalizers.NFD(),
            normalizers.Lowercase(),
            normalizers.StripAccents(),
          ]
        ),
        pre_tokenizers.Whitespace(),
      ),
      "TH\u00c9_the!! the",
      "[UNK] [UNK] the",
    ),
    (steps(normalizers.Lowercase()), "TH\u00c9 \u00c9", "[UNK] \u00e9"),
    (steps(normalizers.NFKC()), "\uff54he", "the"),
    (
      steps(None, pre_tokenizers.WhitespaceSplit()),
      "the, [MASK] e",
      "[UNK] [UNK] e",
    ),
  ],
)
def test_a_pipeline_is_run_as_it_is_written(tmp_path, changes, text, want):
  # `want` is what the `tokenizers` library gives.
  data = write_json(tmp_path / "tokenizer.json", **changes).read_bytes()
  tokenizer = load(tmp_path)
  for one in (tokenizer, pickle.loads(pickle.dumps(tokenizer))):
    (ids,) = one.encode_pieces([text])
    assert " ".join(map(one.token, ids)) == want
  assert tokenizer.continuations.tolist() == [
    token == "##re" for token in TOKENS
  ]
  tokenizer.save(tmp_path / "saved")
  assert (tmp_path / "saved" / "tokenizer.json").read_bytes() == data
  assert load(tmp_path / "saved").encode(text) == tokenizer.encode(text)
  # Transformers lower-cases as the settings say, but BERT's normalizer only.
  small_files.settings(tmp_path, do_lower_case=False)
  assert load(tmp_path).encode(text) == tokenizer.encode(text)


def test_special_tokens_of_other_families(tmp_path):
  names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
  write(tmp_path / "vocab.txt", [*names, "e"])
  tokenizer = load(tmp_path)
  assert tokenizer.special == SpecialIds(1, 3, 0, 2, 4)
  assert tokenizer.encode("e", "x").ids == [0, 5, 2, 3, 2]
  # The file has the names of both; the settings decide, or the class.
  write(tmp_path / "vocab.txt", [*names, *TOKENS])
  assert load(tmp_path).encode("e").ids == [7, 14, 8]
  named = {"cls_token": "<s>", "sep_token": "</s>"}
  small_files.settings(tmp_path, **named)
  assert load(tmp_path).special == SpecialIds(1, 3, 0, 2, 4)
  small_files.settings(tmp_path, tokenizer_class="MPNetTokenizer")
  tokenizer = load(tmp_path)
  assert tokenizer.special == SpecialIds(1, 6, 0, 2, 4)
  assert tokenizer.encode("e", "e").ids == [0, 14, 2, 2, 14, 2]
  tokenizer.save(tmp_path / "saved")
  assert load(tmp_path / "saved").encode("e", "e") == tokenizer.encode("e", "e")


def test_a_vocabulary_without_a_mask(tmp_path):
  tokens = [token for token in TOKENS if token != "[MASK]"]
  write(tmp_path / "vocab.txt", tokens)
  small_files.settings(tmp_path, mask_token="[MASK]")  # As Transformers saves.
  tokenizer = load(tmp_path)
  assert tokenizer.special.mask is None
  assert tokenizer.encode("e").ids == [2, 8, 3]
  assert tokenizer.encode_masked("[MASK]") == tokenizer.encode("[MASK]")
  tokenizer.save(tmp_path / "saved")
  assert load(tmp_path / "saved").special == tokenizer.special
  with user_error("no mask token"):
    mask_name(tokenizer)


def test_blank_and_repeated_lines(tmp_path):
  write(tmp_path / "vocab.txt", [*TOKENS, "", "the", "", ""])
  tokenizer = load(tmp_path)
  assert len(tokenizer) == len(TOKENS) + 2
  assert tokenizer.encode_pieces(["the"]) == [[len(TOKENS) + 1]]
  assert tokenizer.token(TOKENS.index("the")) == ""
  tokenizer.save(tmp_path / "saved")
  assert load(tmp_path / "saved").tokens == tokenizer.tokens
  write_json(tmp_path / "tokenizer.json")
  write(tmp_path / "vocab.txt", [*TOKENS, "", ""])
  assert load(tmp_path).tokens == tuple(TOKENS)


def test_json_without_a_type_of_model(tmp_path):
  path = write_json(tmp_path / "tokenizer.json")
  content = json.loads(path.read_text())
  del content["model"]["type"]
  path.write_text(json.dumps(content))
  assert load(tmp_path).tokens == tuple(TOKENS)
  for family, kind in (("roberta", "BPE"), ("albert", "Unigram")):
    folder = tmp_path / family
    tokenizer = load(small_files.FAMILIES[family](folder))
    tokenizer.save(folder)
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    assert content["model"].pop("type") == kind
    path.write_text(json.dumps(content))
    assert load(folder).encode("the dog") == tokenizer.encode("the dog")


def test_a_class_that_reads_vocab_txt_otherwise_is_refused(tmp_path):
  write(tmp_path / "vocab.txt")
  config = tmp_path / "config.json"
  config.write_text('{"tokenizer_class": "DistilBertTokenizer"}')
  assert load(tmp_path).tokens == tuple(TOKENS)
  config.write_text('{"tokenizer_class": "BertJapaneseTokenizer"}')
  with user_error("BertJapaneseTokenizer in the settings"):
    load(tmp_path)


def mpnet_json(path):
  """A `tokenizer.json` of MPNet, whose special tokens are not BERT's."""
  tokens = [*MPNET_TOKENS, *TOKENS[2:]]
  backend = tokenizers.Tokenizer(
    models.WordPiece(
      {token: id for id, token in enumerate(tokens)}, unk_token="[UNK]"
    )
  )
  backend.normalizer = normalizers.BertNormalizer()
  backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
  backend.post_processor = processors.RobertaProcessing(("</s>", 3), ("<s>", 2))
  backend.save(str(path))


def test_the_special_tokens_and_pairs_of_mpnet(tmp_path):
  mpnet_json(tmp_path / "tokenizer.json")
  tokenizer = load(tmp_path)
  assert tokenizer.special == SpecialIds(*range(5))
  the, re, sep = tokenizer.tokens.index("the"), 9, 3
  encoding = tokenizer.encode("there", "the")
  assert encoding.ids == [2, the, re, sep, sep, the, sep]
  assert encoding.segments == [0, 0, 0, 0, 1, 1, 1]
  assert encoding.offsets[1:3] == [(0, 3), (3, 5)]
  assert tokenizer.encode_masked("the<mask>").ids == [2, the, 4, sep]
  assert 4 not in tokenizer.encode("the <mask>").ids
  assert tokenizer.decode(encoding.ids) == "there the"
  tokenizer.save(tmp_path / "saved")
  (tmp_path / "tokenizer.json").unlink()
  write(tmp_path / "vocab.txt", tokenizer.tokens)
  small_files.settings(tmp_path, "config.json", model_type="mpnet")
  for copy in (load(tmp_path / "saved"), load(tmp_path), pickled(tokenizer)):
    assert copy.special == tokenizer.special
    assert copy.encode("there", "the") == encoding


def test_special_tokens_by_other_names(tmp_path):
  write(tmp_path / "vocab.txt", [*TOKENS, "<s>", "<mask>"])
  small_files.settings(tmp_path, cls_token="<s>", mask_token="<mask>")
  tokenizer = load(tmp_path)
  assert tokenizer.special == SpecialIds(0, 1, 10, 3, 11)
  assert tokenizer.encode("the", "the").ids == [10, 5, 3, 5, 3]
  small_files.settings(tmp_path, cls_token="<cls>")
  with user_error("cls_token: expected a token of .*vocab.txt, got '<cls>'"):
    load(tmp_path)


def test_nothing_to_load(tmp_path):
  with user_error("no such file or folder"):
    load(tmp_path / "missing")
  with user_error("found nothing"):
    load(tmp_path)
  (tmp_path / "config.json").write_text("{}")
  with user_error(r"expected .*found config.json"):
    load(tmp_path)
  shutil.rmtree(tmp_path)
  with user_error(str(tmp_path)):
    load(tmp_path)

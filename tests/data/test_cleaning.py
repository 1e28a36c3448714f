import dataclasses
import importlib.metadata
import itertools
import json
import pickle
import sys

import numpy as np
import pytest

from bert_jax import settings, text
from bert_jax.data.corpus import (
  build,
  clean_text,
  cleaning,
  duplicates,
  quality,
  shards,
)

PAGE = """<!DOCTYPE html><html><head><title>T</title><script>if (a<b) x();
</script></head><body><nav><a href="/">Home</a></nav><h1>Fish &amp; chips</h1>
<p>One <b>bold</b>
word.<br>Next&nbsp;line.</p><ul><li>a<li>b</ul><table><tr><td>1<td>2</table>
<pre>x
  y</pre><footer>End</footer></body></html>"""


@pytest.mark.parametrize(
  ("given", "expected"),
  [
    (PAGE, "Fish & chips\n\nOne bold word.\nNext line.\n\na\nb\n\n1 2\n\nx"),
    ("plain text: 1 < 2 & 3 > 2", None),
    ("a List<String> of <e1> marks </e1>", None),
    ("if a<b and c>d", None),
    ("AT&T; and so on", "AT&T; and so on"),
    ("a <b>b</b> &lt;\nkept\n\nlines", "a b <\nkept\n\nlines"),
    ("<p>open<p>never closed <i>x", "open\n\nnever closed x"),
    ("<!-- nothing -->", ""),
    ("<br>", ""),
    ("<div>" * 600 + "deep" + "</div>" * 600, "deep"),
    ("\0<p>\x1da\x1e</p>", "a"),
    ('<?xml version="1.0" encoding="latin-1"?><p>\xe9</p>', "\xe9"),
  ],
)
def test_html_becomes_its_text(given, expected):
  found = clean_text.html_to_text(given, content_only=True)
  if given is PAGE:
    assert found.replace("  ", " ") == expected + "\n y"
    assert "Home" in clean_text.html_to_text(given)
  else:
    assert found == (given if expected is None else expected)


@pytest.mark.parametrize(
  ("given", "expected", "removed"),
  [
    ("a\u200bb\ufeff c\xadd", "ab cd", 3),
    ("tab\tand\nline", "tab\tand\nline", 0),
    ("bell\x07 nul\0", "bell nul", 2),
    ("\u202eleft\u2069", "left", 2),
    ("a\xa0b\u3000c\u2028d\x85e\r\nf", "a b c\nd\ne\nf", 0),
    ("a\u200db", "ab", 1),
    ("می\u200cخواهم क\u094d\u200dष", "می\u200cخواهم क\u094d\u200dष", 0),
    ("\U0001f469\u200d\U0001f467", "\U0001f469\u200d\U0001f467", 0),
  ],
)
def test_characters_that_spell_nothing(given, expected, removed):
  found = clean_text.remove_control_characters(given)
  assert found == (expected, removed)


@pytest.mark.parametrize(
  ("line", "expected"),
  [
    ("Home | About us | Contact", True),
    ("Copyright (c) 2019 by someone", True),
    ("We use cookies to improve your experience.", True),
    ("  Read more »", True),
    ("Skip to main content", True),
    ("He went home.", False),
    ("The search for a home took all day.", False),
    ("p(a | b) is the probability of a given b, as we shall see.", False),
    (
      "A policy " + "is a long story " * 30 + "about the privacy policy.",
      False,
    ),
    ("", False),
  ],
)
def test_boilerplate_lines(line, expected):
  assert clean_text.is_boilerplate(line) == expected


LINES = [
  "This line is fine and ends well.",
  "This line [12] has a mark [edit] and ends as it should.",
  "no end mark here at all",
  "Too short.",
  "This one ends with an ellipsis...",
  "Please enable javascript to view this page.",
  "Read our privacy policy if you have the time.",
  "x" * 1001 + " is a word that is far too long.",
  '  "Does it end with a quotation?" asked the man.  ',
]


def test_c4_is_that_of_tensorflow_datasets(monkeypatch):
  c4_utils = pytest.importorskip("tensorflow_datasets.text.c4_utils")
  monkeypatch.setattr(c4_utils, "_get_sentences", quality.sentences.prose)
  clean_page = c4_utils.get_clean_page_fn()
  bad = ["Lorem ipsum dolor sit amet, and so on.", "A { is in this long line."]
  pages = ["\n".join(LINES[:3]), "\n\n".join([*LINES, *LINES]), ""]
  pages += ["\n".join([*LINES, line]) for line in bad]
  for page in pages:
    features = c4_utils.PageFeatures(text=page)
    expected = list(clean_page(features, counter_inc_fn=lambda *_: None))
    found = quality.c4(page)
    assert [found.text] == ([page.text for page in expected] or [None])
  assert quality.c4(pages[1]).removed[0] == ("no end mark", LINES[2])


GOOD = (
  "The harbour of the old town lies between two hills, and a wall that was"
  " built against pirates still runs along the shore. Fishermen sell their"
  " catch there every morning with great noise. In winter, when storms keep"
  " the boats at home, people repair nets and tell stories to be remembered in"
  " summer. Few visitors come at that time, although trains arrive every hour"
  " and most rooms cost half as much."
)


@pytest.mark.parametrize(
  ("name", "given", "reason"),
  [
    ("gopher", GOOD, None),
    ("gopher_repetition", GOOD, None),
    ("gopher", "The cat and the dog.", "fewer than 50 words"),
    ("gopher", "a b the and " * 20, "the mean length of words"),
    ("gopher", GOOD + " #tag" * 20, "many #"),
    ("gopher", GOOD + " well..." * 20, "many ellipses"),
    ("gopher", GOOD + " 12345" * 40, "words without a letter"),
    ("gopher", "house garden " * 30, "fewer than 2 stop words"),
    ("gopher", "- the garden and\n" * 30, "lines with bullets"),
    ("gopher_repetition", "One line.\nTwo.\n" * 3, "repeated lines"),
    ("gopher_repetition", "good day " * 30, "a frequent 2-gram"),
    ("gopher_repetition", f"{GOOD} {GOOD}", "repeated 5-grams"),
  ],
)
def test_a_quality_filter_says_why(name, given, reason):
  text, removed = quality.QUALITY[name](given)
  assert (text, [*removed]) == (
    (given, []) if reason is None else (None, [(reason, None)])
  )


def changed(random, words, share):
  return [f"new{i}" if random.random() < share else w for i, w in words]


def grams(words, size=5):
  return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}


def make_texts(count=25):
  """Texts of random words, each followed by some with changes."""
  random = np.random.default_rng(0)
  made = []
  for _ in range(count):
    words = [
      f"w{i}" for i in random.integers(0, 5000, random.integers(60, 150))
    ]
    made.append(words)
    for share in (0.0, 0.01, 0.02, 0.1):
      made.append(changed(random, [*enumerate(words)], share))
  return [made[i] for i in random.permutation(len(made))]


def test_signatures_estimate_the_similarity():
  made = make_texts(20)
  found = duplicates.signatures([" ".join(words) for words in made], 5)
  pairs = itertools.combinations(range(len(made)), 2)
  errors = []
  for a, b in pairs:
    first, second = grams(made[a]), grams(made[b])
    exact = len(first & second) / len(first | second)
    errors.append((found[a] == found[b]).mean() - exact)
  assert np.abs(np.mean(errors)) < 2e-3
  assert np.abs(errors).max() < 0.2
  same = duplicates.signatures(
    ["Hello, World!", "hello  world", "x", "中文"], 5
  )
  assert (same[0] == same[1]).all()
  assert not (same[2] == same[0]).any()


@pytest.mark.parametrize("similarity", [None, 0.8])
def test_duplicates_are_those_of_all_pairs(tmp_path, monkeypatch, similarity):
  made = make_texts()
  texts = [" ".join(words) for words in made]
  kind = duplicates.Kind("any", similarity)
  expected, unsure = set(), set()
  for later, earlier in itertools.combinations(range(len(made))[::-1], 2):
    first, second = grams(made[later]), grams(made[earlier])
    exact = len(first & second) / len(first | second)
    if exact >= (similarity or 1) + 0.1 or exact == 1:
      expected.add(later)
    elif similarity and exact >= similarity - 0.12:
      unsure.add(later)
  results = []
  for parts, keys in ((1, 1 << 20), (3, 200)):
    monkeypatch.setattr(duplicates, "_KEYS", keys)
    folder = tmp_path / str(parts)
    folder.mkdir()
    bounds = [len(texts) * i // parts for i in range(parts + 1)]
    count = sum(
      duplicates.write_keys(kind, folder, folder, shard, texts[first:last])
      for shard, (first, last) in enumerate(itertools.pairwise(bounds))
    )
    ranges = duplicates.ranges(count)
    assert (ranges > 1) == (parts > 1 and similarity is not None)
    for part in range(ranges):
      duplicates.search(kind, folder, folder, parts, part, ranges)
    results.append(
      {
        bounds[shard] + index: bounds[other] + place
        for shard in range(parts)
        for index, (other, place) in duplicates.found(
          kind, folder, shard, ranges
        ).items()
      }
    )
  assert results[0] == results[1]
  assert expected <= results[0].keys() <= expected | unsure
  assert all(earlier < later for later, earlier in results[0].items())
  assert len(expected) >= 25


def sentence(random):
  words = random.choice(["sea", "hill", "wind", "road", "tree", "lake"], 6)
  return f"The {' '.join(words)} number {random.integers(1 << 40)} is here."


def pages(count=24):
  """Articles as HTML pages, and each again with a word changed at its end."""
  random = np.random.default_rng(1)
  articles = [[sentence(random) for _ in range(8)] for _ in range(count)]
  again = [[*article[:-1], article[-1] + " Indeed."] for article in articles]
  dirty = [
    "<nav>Home</nav>"
    + "".join(f"<p>{line}</p><p>{line}</p>" for line in article)
    + "<p>All rights reserved.</p><p>A line of every page, the same.</p>"
    for article in [*articles, *again]
  ]
  return articles, dirty


def make_config(folder, dirty, **clean):
  lines = (json.dumps({"text": page}) for page in dirty)
  (folder / "pages.jsonl").write_text("\n".join(lines))
  return build.CorpusConfig(
    source="text_files",
    files=(str(folder / "pages.jsonl"),),
    sentences="line",
    vocab_size=100,
    shards=3,
    eval_fraction=0.0,
    clean=cleaning.CleanConfig(**clean),
  )


RULES = {
  "html": True,
  "boilerplate": True,
  "control_characters": True,
  "unicode": "NFC",
  "duplicate_documents": "near",
  "duplicate_lines": "near",
}


def read(folder):
  tokenizer = text.load(folder)
  return [
    [tokenizer.decode(sentence.tolist()) for sentence in document]
    for document in shards.Corpus.open(folder)
  ]


def backwards(function, tasks, _):
  """A runner whose workers share nothing, and end in another order."""
  sent = [pickle.dumps((function, task)) for task in tasks]
  results = []
  for data in reversed(sent):
    work, task = pickle.loads(data)
    results.append(pickle.loads(pickle.dumps(work(*task))))
  return reversed(results)


def test_a_dirty_corpus_becomes_the_clean_one(tmp_path):
  articles, dirty = pages()
  config = make_config(tmp_path, dirty, **RULES)
  report = build.prepare(config, tmp_path / "one", 1).report
  build.prepare(config, tmp_path / "two", runner=backwards)
  files = {
    path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()
  }
  assert files == {
    path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()
  }
  # Another number of shards is another layout of the same documents.
  other = dataclasses.replace(config, shards=5)
  build.prepare(other, tmp_path / "five", 1)
  tokenizer = text.load(tmp_path / "one")
  expected = [
    [tokenizer.decode(ids) for ids in tokenizer.encode_pieces(article)]
    for article in articles
  ]
  everywhere = tokenizer.encode_pieces(["A line of every page, the same."])[0]
  expected[0].append(tokenizer.decode(everywhere))
  assert read(tmp_path / "one") == read(tmp_path / "five") == expected
  found = report["cleaning"]
  removed = found["removed"]
  assert found["documents"] == 48
  assert found["characters"] == sum(map(len, dirty))
  assert removed["html"]["changed"] == 48
  assert removed["boilerplate"]["lines"] == 48
  assert removed["boilerplate"]["samples"] == ["All rights reserved."]
  assert removed["duplicate_documents.near"]["documents"] == 24
  assert " ~ " in removed["duplicate_documents.near"]["samples"][0]
  assert removed["duplicate_lines"]["lines"] == 48 * 8 + 23
  manifest = json.loads((tmp_path / "one" / "corpus.json").read_text())
  assert manifest["report"]["cleaning"] == found
  assert {
    "package": "lxml",
    "version": importlib.metadata.version("lxml"),
  } in manifest["source"]


def test_without_cleaning_the_manifest_is_as_before(tmp_path):
  config = make_config(tmp_path, pages()[1], similarity=0.9)
  build.prepare(config, tmp_path / "corpus", 1)
  manifest = json.loads((tmp_path / "corpus" / "corpus.json").read_text())
  assert not {"clean", "words", "parts"} & manifest["config"].keys()
  assert "cleaning" not in manifest["report"]
  assert len(manifest["source"]) == 1


def test_languages_and_filters_are_counted_by_reason():
  config = cleaning.CleanConfig(languages=("en",), quality=("c4",))
  counts = cleaning.Counts()
  kept = [
    cleaning.clean_document(text, config, counts)
    for text in (
      GOOD,
      "Der Hund und die Katze haben heute im Garten gespielt. " * 4,
      "The cat sat on the mat.",
      " \n",
    )
  ]
  assert kept == [GOOD, None, None, None]
  figures = counts.figures()
  assert figures["documents"] == 4
  assert {
    rule: removed["documents"] for rule, removed in figures["removed"].items()
  } == {
    "languages.de": 1,
    "quality.c4: fewer than 3 sentences": 2,
  }


@pytest.mark.parametrize(
  ("section", "message"),
  [
    ({"htlm": True}, r"^config.corpus.clean.htlm: unknown key; did you mean"),
    ({"unicode": "nfc"}, r"^config.corpus.clean.unicode: unknown 'nfc'"),
    ({"quality": ["c5"]}, r"^config.corpus.clean.quality: unknown 'c5'"),
    ({"duplicate_lines": "all"}, r"clean.duplicate_lines: unknown 'all'"),
    ({"similarity": 2.0}, r"^config.corpus.clean.similarity: expected 0.3 to"),
    ({"ngram": 0}, r"^config.corpus.clean.ngram: expected 1 to 64, got 0"),
  ],
)
def test_mistakes_in_the_section(section, message):
  with pytest.raises(settings.UserError, match=message):
    settings.from_dict(
      build.CorpusConfig, {"source": "tfds", "clean": section}, "config.corpus"
    )


def test_what_prepare_cannot_do(tmp_path, monkeypatch):
  dirty = pages(2)[1]
  config = make_config(tmp_path, dirty, languages=("xx",))
  with pytest.raises(
    settings.UserError, match=r"clean.languages: unknown 'xx'"
  ):
    build.prepare(config, tmp_path / "corpus", 1)
  config = make_config(tmp_path, ["Too short."] * 4, quality=("gopher",))
  with pytest.raises(
    settings.UserError,
    match=r"no document remains; 'quality.gopher: .*' removes 4",
  ):
    build.prepare(config, tmp_path / "corpus", 1)
  config = make_config(tmp_path, dirty, html=True)
  monkeypatch.setitem(sys.modules, "lxml", None)
  with pytest.raises(settings.UserError, match=r"install 'bert_jax\[clean\]'"):
    build.prepare(config, tmp_path / "corpus", 1)

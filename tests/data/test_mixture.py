import collections
import json

import pytest

from bert_jax import settings, text
from bert_jax.data.corpus import build, shards

NAMES = ("books", "mails", "web")
WEIGHTS = (1, 2.5, 0.25)
COUNT = 400


@pytest.fixture
def section(tmp_path):
  parts = {}
  for name, weight in zip(NAMES, WEIGHTS):
    path = tmp_path / f"{name}.jsonl"
    lines = [{"text": f"{name} {number}"} for number in range(COUNT)]
    path.write_text("\n".join(map(json.dumps, lines)))
    parts[name] = {
      "source": "text_files",
      "files": [str(path)],
      "weight": weight,
    }
  del parts["books"]["weight"]
  return {
    "source": "mixture",
    "parts": parts,
    "sentences": "line",
    "vocab_size": 60,
    "shards": 3,
    "eval_fraction": 0.1,
  }


def make(section):
  return settings.from_dict(build.CorpusConfig, section, "config.corpus")


def documents(folder, split):
  tokenizer = text.load(folder)
  return [
    tuple(tokenizer.decode(document[0].tolist()).split(" ", 1))
    for document in shards.Corpus.open(folder, split)
  ]


@pytest.mark.parametrize("clean", [{}, {"duplicate_documents": "exact"}])
def test_documents_are_used_by_the_weight_of_their_part(
  section, tmp_path, clean
):
  report = build.prepare(
    make(section | {"clean": clean}), tmp_path / "corpus", 1
  ).report
  train = documents(tmp_path / "corpus", "train")
  held_out = documents(tmp_path / "corpus", "eval")
  # No document is in both splits, and none is twice in the eval split.
  assert not set(train) & set(held_out)
  assert len(set(held_out)) == len(held_out) > 20
  for name, weight in zip(NAMES, WEIGHTS):
    copies = collections.Counter(x for x in train if x[0] == name)
    used = len(copies) + sum(name == x[0] for x in held_out)
    assert used == (COUNT if weight >= 1 else pytest.approx(100, abs=25))
    assert (
      set(copies.values())
      <= {
        "books": {1},
        "mails": {2, 3},
        "web": {1},
      }[name]
    )
    mean = copies.total() / len(copies)
    assert mean == pytest.approx(max(weight, 1), abs=0.1)
  assert report["documents"] == len(train) + len(held_out)
  manifest = json.loads((tmp_path / "corpus" / "corpus.json").read_text())
  assert [part["weight"] for part in manifest["source"][:3]] == list(WEIGHTS)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"weight": 0}, r"config.corpus.parts.web.weight: expected above 0 and"),
    ({"weight": "2"}, r"config.corpus.parts.web.weight: expected .* got '2'"),
    ({"wieght": 2}, r"^config.corpus.parts.web.wieght: unknown key"),
    ({"source": "mixture", "parts": {"a": {"source": "tfds"}}}, "no mixture"),
    ({"files": ["none"]}, r"^config.corpus.parts.web.files: 'none' matches no"),
  ],
)
def test_mistakes_in_a_part(section, tmp_path, change, message):
  section["parts"]["web"] |= change
  with pytest.raises(settings.UserError, match=message):
    build.prepare(make(section), tmp_path / "corpus", 1)


def test_parts_are_those_of_a_mixture(section):
  for change in ({"parts": {}}, {"source": "text_files"}):
    with pytest.raises(settings.UserError, match=r"^config.corpus.parts: exp"):
      make(section | change)

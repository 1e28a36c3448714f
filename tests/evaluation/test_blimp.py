"""BLiMP, and the n-gram models that it is measured by."""

import json
import math
import zipfile

import numpy as np
import pytest

import bert_jax
from bert_jax.evaluation import blimp
from bert_jax.evaluation.ngrams import NgramModel
from tests import small
from tests.commands import mistake, output
from tests.errors import user_error

PAIRS = {
  "island": [("it sorts", "sorts it"), ("the list is in place", "in the list")],
  "agreement": [("names sort it", "names sorts it")] * 3,
}


def line(name, good, bad):
  field = "syntax/semantics" if name == "island" else "morphology"
  return json.dumps(
    {
      "sentence_good": good,
      "sentence_bad": bad,
      "field": field,
      "linguistics_term": f"{name}_term",
      "UID": name,
    }
  )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  home = tmp_path_factory.mktemp("home")
  (home / "blimp").mkdir()
  for name, pairs in PAIRS.items():
    text = "".join(line(name, *pair) + "\n" for pair in pairs)
    (home / "blimp" / f"{name}.jsonl").write_text(text)
  with zipfile.ZipFile(home / "blimp.zip", "w") as archive:
    for name in PAIRS:
      archive.write(home / "blimp" / f"{name}.jsonl", f"data/{name}.jsonl")
    archive.writestr("__MACOSX/data/._island.jsonl", b"\x00\x05\xff")
  bert_jax.save(small.model(), home / "model", format="bert_jax")
  (home / "text.txt").write_text("the list is in place\nnames sort it\n")
  return home


def test_a_folder_and_a_zip_have_the_same_pairs(home):
  pairs = blimp.read(home / "blimp")
  assert blimp.read(home / "blimp.zip") == pairs
  assert [pair.set for pair in pairs] == ["agreement"] * 3 + ["island"] * 2
  assert pairs[-1].field == "syntax_semantics"
  limited = blimp.read(home / "blimp.zip", limit=1)
  assert [pair.set for pair in limited] == ["agreement", "island"]


def test_accuracies_are_of_the_scores_that_people_get(home):
  pairs = blimp.read(home / "blimp")
  result = blimp.evaluate({None: small.model}, pairs, ["it sorts"])
  good = small.model().score([pair.good for pair in pairs])
  bad = small.model().score([pair.bad for pair in pairs])
  expected = [[x.score, y.score] for x, y in zip(good, bad)]
  np.testing.assert_allclose(result.scores, expected, atol=1e-3)
  correct = [x > y for x, y in expected]
  assert result.metrics["accuracy"] == np.mean(correct)
  assert result.tables["set"]["island"]["accuracy"] == np.mean(correct[3:])
  # All lengths are equal but those of the last pair, whose bad one is shorter;
  # and "sorts" is all that the n-gram model knows of the first three.
  assert result.baselines == {
    "accuracy_chance_baseline": 0.5,
    "accuracy_length_baseline": pytest.approx(4 * 0.5 / 5),
    "accuracy_3-gram_baseline": pytest.approx(1 / 5),
  }


def test_the_command_compares_the_checkpoints_of_a_run(home):
  flags = ("--model=model", "--benchmark=blimp", "--data=blimp.zip")
  out = output(
    "evaluate", *flags, "--steps=all", "--ngram_text=text.txt", cwd=home
  )
  assert "0.5 chance" in out
  found = json.loads((home / "model" / "evaluation.json").read_text())
  assert found["pairs"] == 5
  assert [*found["tables"]] == ["field", "term", "set", "step"]
  accuracy = found["metrics"]["accuracy"]
  assert found["tables"]["step"]["0"]["accuracy"] == accuracy
  answers = (home / "model" / "predictions.jsonl").read_text().splitlines()
  assert json.loads(answers[0])["scores"].keys() == {"good", "bad"}
  assert ">island<" in (home / "model" / "evaluation.html").read_text()


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--benchmark=glue"], "benchmark"),
    (["--limit=3"], "--limit goes with --benchmark"),
    (["--benchmark=blimp", "--steps=3"], "no checkpoint of step 3; there: 0"),
    (["--benchmark=blimp", "--steps=x"], "--steps: expected 600,1200 or all"),
    (["--benchmark=blimp", "--header"], "--header does not go with"),
    (["--benchmark=blimp", "--data=text.txt"], "text.txt: cannot be read"),
    (["--benchmark=blimp", "--data=model/tokenizer"], "found none"),
  ],
)
def test_a_mistake_in_the_flags_is_one_line(home, flags, message):
  flags = ["--model=model", "--data=blimp", *flags]
  assert message in mistake("evaluate", *flags, cwd=home)


def test_a_line_that_is_no_pair_is_named(tmp_path):
  path = tmp_path / "island.jsonl"
  good = line("island", "it sorts", "sorts it")
  number = good.replace('"it s', "3, ")
  for bad in ("{", "[]", '{"sentence_good": "it"}', number):
    path.write_text(f"{good}\n\n{bad}\n")
    with user_error(r"island.jsonl:3: expected a JSON object with the texts"):
      blimp.read(tmp_path)


def test_a_step_is_one_of_the_run(home):
  assert bert_jax.load(home / "model", step=0).params.keys()
  with user_error("no checkpoint of step 7; there: 0"):
    bert_jax.load(home / "model", step=7)


def test_probabilities_of_an_ngram_model_add_up_to_1():
  texts = [["a", "b", "a"], ["a", "c"], ["b", "b", "c"]]
  for order in (1, 2, 3):
    model = NgramModel.train(texts, order)
    for context in (["a", "b"], ["b", "b"], ["z", "a"], ["z", "z"]):
      total = sum(
        model.probability((*context[2 - (order - 1) :], word)[-order:])
        for word in ("a", "b", "c", "</s>", "never seen")
      )
      assert total == pytest.approx(1)


def test_an_ngram_model_is_that_of_kneser_and_ney_by_hand():
  model = NgramModel.train([["a", "b"], ["a", "c"]], order=2)
  # 1-grams count the tokens before: a 1 (<s>), b 1, c 1, </s> 2; 5 in all.
  least = 0.75 * 4 / 5 / 5
  of_b = 0.25 / 5 + least
  assert model.probability(("a", "b")) == pytest.approx(
    0.25 / 2 + 0.75 * 2 / 2 * of_b
  )
  of_a, of_end = 0.25 / 5 + least, 1.25 / 5 + least
  expected = [
    1.25 / 2 + 0.75 / 2 * of_a,
    0.25 / 2 + 0.75 * of_b,
    0.25 / 1 + 0.75 * of_end,
  ]
  assert model.score(["a", "b"]) == pytest.approx(sum(map(math.log, expected)))

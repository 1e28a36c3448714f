"""Published models, from the command line and from a hub."""

import json
import os

import numpy as np
import pytest

import bert_jax
from tests.commands import output, python, run
from tests.interop import folders, hub_server

SENTENCES = ["the array is in place", "", "names", "it sorts a list"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  folder = tmp_path_factory.mktemp("models")
  for task in ("embedding", "masked_lm", "classification"):
    bert_jax.save(folders.model("bert", task), folder / task)
  (folder / "sentences.txt").write_text("\n".join(SENTENCES) + "\n")
  return folder


def test_convert_there_and_back(home):
  for source, target, form in (
    ("masked_lm", "ours", "bert_jax"),
    ("ours", "theirs", "huggingface"),
  ):
    out = output("convert", source, target, f"--to={form}", cwd=home)
    assert out == f"{target}: a bert model for the task masked_lm\n"
  for name in ("model.safetensors", "config.json", "vocab.txt"):
    before = (home / "masked_lm" / name).read_bytes()
    assert (home / "theirs" / name).read_bytes() == before


def test_sentences_become_vectors(home):
  arguments = ["--model=masked_lm", "--task=embedding", "--input=sentences.txt"]
  out = output("predict", *arguments, cwd=home)
  rows = list(map(json.loads, out.splitlines()))
  assert [row["text"] for row in rows] == [s for s in SENTENCES if s]
  expected = bert_jax.load(home / "masked_lm").embed([r["text"] for r in rows])
  given = np.array([row["answer"] for row in rows])
  np.testing.assert_allclose(given, expected, atol=1e-5)
  assert (
    output("predict", *arguments, "--output=v.npy", cwd=home)
    == "3 answers in v.npy\n"
  )
  np.testing.assert_allclose(np.load(home / "v.npy"), expected, atol=1e-5)


def test_records_of_any_form_are_answered(home):
  texts = ["a \ud83d", "names", None]
  rows = [{"id": n, "review": text} for n, text in enumerate(texts)]
  (home / "rows.JSON").write_text(json.dumps(rows))
  code, out, err = run(
    "predict",
    "--model=classification",
    "--input=rows.JSON",
    "--columns=text=review",
    "--bad_rows=skip",
    cwd=home,
  )
  assert code == 0, err
  found = [json.loads(line) for line in out.splitlines()]
  assert [row["text"] for row in found] == texts[:2]
  assert [row["id"] for row in found] == [0, 1]
  assert "\\ud83d" in out
  assert "1 rows of --input skipped; the first: rows.JSON: [2]: has no" in err
  assert "1 lone surrogates in the texts of --input" in err


def test_a_record_is_answered(home):
  out = output(
    "predict",
    "--model=classification",
    '--record={"text": "a list", "pair": "of names"}',
    cwd=home,
  )
  labels = [json.loads(line)["label"] for line in out.splitlines()]
  assert sorted(labels) == ["LABEL_0", "LABEL_1"]


def test_scores_have_another_activation_on_request(home):
  arguments = ("--model=classification", "--task=regression", "--text=a list")
  logits, scores = (
    [
      json.loads(line)["value"]
      for line in output("predict", *arguments, *more, cwd=home).splitlines()
    ]
    for more in (["--activation=identity"], ["--activation=sigmoid"])
  )
  np.testing.assert_allclose(scores, 1 / (1 + np.exp(-np.array(logits))), 1e-5)


def test_a_missing_head_is_one_line_of_warning(home):
  code, _, err = run(
    "predict", "--model=embedding", "--task=tagging", "--text=names", cwd=home
  )
  assert code == 0
  assert err.startswith("warning: embedding has no classifier for the task")
  assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
  ("name", "arguments", "message"),
  [
    ("convert", ["--to=huggingface"], "expected a source and a destination"),
    ("convert", ["masked_lm", "x", "--to=onnx"], "onnx"),
    ("convert", ["masked_lm", "x"], "--to"),
    ("convert", ["nowhere", "x", "--to=bert_jax"], "nowhere: no such file"),
    ("convert", ["masked_lm", "x", "--to=peft"], "masked_lm: no adapter; exp"),
    (
      "convert",
      ["masked_lm", "embedding", "--to=huggingface"],
      "embedding is not empty; choose a new folder",
    ),
    (
      "predict",
      ["--model=masked_lm", "--input=sentences.txt"],
      "sentences.txt:1: no [MASK] in the text",
    ),
    (
      "predict",
      ["--model=embedding", "--text=a", "--top_k=3"],
      "--top_k: the task embedding has no such",
    ),
    (
      "predict",
      ["--model=classification", "--text=a", "--activation=identity"],
      "--activation: the task classification has no such",
    ),
    (
      "predict",
      [
        "--model=classification",
        "--task=regression",
        "--text=a",
        "--activation=identify",
      ],
      "activation: unknown 'identify'; did you mean 'identity'",
    ),
    (
      "predict",
      ["--model=classification", "--input=sentences.txt", "--output=x.npy"],
      "are no vectors; name a .jsonl",
    ),
    ("predict", ["--model=embedding", "--task=embed", "--text=a"], "did you"),
    ("predict", ["--model=embedding", "--record=[3]"], "--record: expected a"),
    ("predict", ["--model=hf://", "--text=a"], "hf://"),
    (
      "predict",
      ["--model=embedding", "--input=masked_lm/model.safetensors"],
      "--format: the suffix of masked_lm/model.safetensors is of no known",
    ),
    (
      "predict",
      ["--model=embedding", "--input=masked_lm/vocab.txt", "--format=csv"],
      "--columns.text: masked_lm/vocab.txt has no column 'text'",
    ),
    (
      "predict",
      ["--model=embedding", "--input=no.txt"],
      "--input: 'no.txt' ma",
    ),
    (
      "predict",
      ["--model=embedding", "--text=a", "--output=x"],
      "--output goes with --input",
    ),
  ],
)
def test_a_mistake_gets_one_clear_line(home, name, arguments, message):
  before = sorted(home.iterdir())
  code, out, err = run(name, *arguments, cwd=home)
  assert code in (1, 2)
  lines = (out + err).strip().splitlines()
  assert message in lines[-1], err
  assert "Traceback" not in err
  assert sorted(home.iterdir()) == before


def test_a_model_of_a_hub_is_loaded(home, tmp_path):
  files = {
    path.relative_to(home / "embedding").as_posix(): path.read_bytes()
    for path in (home / "embedding").rglob("*")
    if path.is_file()
  }
  script = (
    "import sys, bert_jax, numpy as np;"
    "np.save(sys.argv[2], bert_jax.load(sys.argv[1]).embed('names'))"
  )
  with hub_server.serve({"org/name": files}) as hub:
    env = {"HF_HOME": str(tmp_path / "cache"), "HF_ENDPOINT": hub.url}
    env = os.environ | env | {"NO_PROXY": "127.0.0.1"}
    python(script, "hf://org/name@main", tmp_path / "v.npy", env=env)
  expected = bert_jax.load(home / "embedding").embed("names")
  np.testing.assert_allclose(np.load(tmp_path / "v.npy"), expected, atol=1e-6)

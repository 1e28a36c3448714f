"""A fine-tuned model measured and asked, as a user does it."""

import json
import random

import pytest

from bert_jax.training.logging import read_metrics
from tests import small
from tests.commands import mistake, output

CONFIG = """
from ml_collections import ConfigDict

def get_config():
  return ConfigDict({
    'task': 'classification', 'steps': 12, 'batch_size': 8,
    'model': {'hidden_size': 16, 'num_layers': 1, 'num_heads': 2,
              'intermediate_size': 32, 'max_positions': 32},
    'data': {'train': 'train.tsv', 'eval': 'dev.tsv', 'tokenizer': 'words',
             'header': False, 'columns': {'label': 0, 'text': 1, 'pair': 2}},
    'optimizer': {'name': 'adamw', 'learning_rate': 1e-2},
    'evaluation': {'every': 6},
    'checkpoint': {'every': 4, 'keep': 3},
    'logging': {'every': 6},
  })
"""


def write_table(path, rows, seed):
  rng = random.Random(seed)
  words = small.WORDS.split()[:10]
  lines = []
  for _ in range(rows):
    text = " ".join(rng.choices(words, k=4))
    label = "listed" if "list" in text.split() else "not"
    lines.append(f"{label}\t{text}\t{rng.choice(words)}\n")
  path.write_text("".join(lines))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  """A folder with a finished run and its data."""
  folder = tmp_path_factory.mktemp("home")
  small.tokenizer().save(folder / "words")
  write_table(folder / "train.tsv", 40, seed=0)
  write_table(folder / "dev.tsv", 21, seed=1)
  (folder / "config.py").write_text(CONFIG)
  output("train", "--config=config.py", "--workdir=run", cwd=folder)
  return folder


def test_an_evaluation_gives_the_figures_of_training(home):
  out = output("evaluate", "--model=run", "--data=dev.tsv", cwd=home)
  assert "accuracy" in out
  assert "run/evaluation.html" in out
  found = json.loads((home / "run" / "evaluation.json").read_text())
  held_out = read_metrics(home / "run")[-1]
  assert held_out["split"] == "eval"
  for name, value in {**found["metrics"], **found["baselines"]}.items():
    assert value == pytest.approx(held_out[name], rel=1e-5), name
  lines = (home / "run" / "predictions.jsonl").read_text().splitlines()
  answers = [json.loads(line) for line in lines]
  right = [row["answer"][0]["label"] == row["label"] for row in answers]
  assert sum(right) / 21 == pytest.approx(found["metrics"]["accuracy"])
  page = (home / "run" / "evaluation.html").read_text()
  assert "data:image/png;base64,iVBOR" in page


def test_another_file_is_read_as_the_flags_say(home):
  (home / "other.csv").write_text("kind,what\nlisted,the list\nno,it\nno\n")
  out = output(
    "evaluate",
    "--model=run",
    "--data=other.csv",
    "--columns=label=kind,text=what",
    "--header",
    "--bad_rows=skip",
    "--output=new/folder",
    cwd=home,
  )
  assert "the model has no label no; records with it count as errors" in out
  assert "1 rows of --data skipped; the first: other.csv:4: " in out
  found = json.loads((home / "new" / "folder" / "evaluation.json").read_text())
  assert found["records"] == 2


def test_a_pair_is_classified_and_by_all_checkpoints_too(home):
  found = []
  for more in ([], ["--pair=it"], ["--pair=it", "--combine=soup"]):
    out = output("predict", "--model=run", "--text=the list", *more, cwd=home)
    answers = map(json.loads, out.splitlines())
    found.append({answer["label"]: answer["probability"] for answer in answers})
  for answer in found:
    assert answer.keys() == {"listed", "not"}
    assert sum(answer.values()) == pytest.approx(1)
  assert len({answer["not"] for answer in found}) == 3


@pytest.mark.parametrize(
  ("name", "arguments", "message"),
  [
    ("evaluate", ["--data=nowhere.tsv"], "--data: 'nowhere.tsv' matches no fi"),
    ("evaluate", ["--data=dev.tsv", "--columns=text=7"], "--columns.text"),
    ("evaluate", ["--data=dev.tsv", "--model=words"], "--output: name a"),
    ("predict", ["--pair=it", "--input=dev.tsv"], "--pair goes with --text"),
    ("predict", ["--text=it", "--model=run,words", "--combine=soup"], "words"),
  ],
)
def test_a_mistake_gets_one_clear_line(home, name, arguments, message):
  assert message in mistake(name, "--model=run", *arguments, cwd=home)

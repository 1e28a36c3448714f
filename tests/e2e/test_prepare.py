"""`launch.prepare` as a user runs it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from bert_jax.data.corpus import shards
from tests.commands import ROOT, mistake, run

TEXT = "\n\n".join(
  f"Document {i} is about number {i * i}. It has a second sentence. So it goes."
  for i in range(300)
)
CONFIG = """
from ml_collections import ConfigDict

def get_config():
  return ConfigDict({"corpus": {"source": "text_files", "vocab_size": 120}})
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
  (tmp_path / "config.py").write_text(CONFIG)
  (tmp_path / "text.txt").write_text(TEXT)
  # Reading the config must not leave anything in the folder either.
  monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
  return tmp_path


def flags(folder, *arguments, files="text.txt"):
  return [
    f"--config={folder / 'config.py'}",
    f"--config.corpus.files={folder / files}",
    *arguments,
  ]


def command(*arguments, **options):
  """A command line, for a process of its own."""
  given = flags(*arguments, **options)
  return [sys.executable, "-m", "launch.prepare", *given]


def execute(line, **environment):
  return subprocess.run(
    line,
    env=os.environ | environment,
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=120,
  )


def prepare(*arguments, **options):
  return run("prepare", *flags(*arguments, **options), cwd=ROOT)


def test_twice_the_same_bytes_and_then_resumed(folder):
  outputs = [folder / "one", folder / "two"]
  for seed, output in enumerate(outputs):
    line = command(folder, f"--output={output}", f"--processes={seed + 1}")
    done = execute(line, PYTHONHASHSEED=str(seed))
    assert done.returncode == 0, done.stderr
    assert f"\nprepared: {output}" in done.stdout
    assert "warning: " in done.stdout
    assert done.stderr == ""
  first, second = (
    {path.name: path.read_bytes() for path in output.iterdir()}
    for output in outputs
  )
  assert first == second
  corpus = shards.Corpus.open(outputs[0])
  held_out = shards.Corpus.open(outputs[0], "eval")
  assert len(corpus) + len(held_out) == 300
  again = prepare(folder, f"--output={outputs[0]}")
  assert again.code == 0
  assert f"already prepared: {outputs[0]}" in again.out


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--config.corpus.shards=abc"], "config.corpus.shards: expected int"),
    (["--config.corpus.vocab_size=abc"], "--config.corpus.vocab_size=abc"),
    (["--config.corpus.lowercased=1"], "did you mean 'lowercase'?"),
    (["--config.corpsu.shards=1"], "config: unknown 'corpsu'; did you mean"),
    (["--config.corpsu=1"], "did you mean 'corpus'?"),
    (["--config.corpus.files=none"], "config.corpus.files: 'none' matches no"),
  ],
)
def test_a_mistake_is_one_line_and_writes_nothing(folder, arguments, message):
  given = flags(folder, f"--output={folder / 'out'}", *arguments)
  assert message in mistake("prepare", *given, cwd=ROOT)
  assert {p.name for p in folder.iterdir()} == {"config.py", "text.txt"}


def test_a_full_disk_is_one_line(folder):
  limited = ["bash", "-c", 'ulimit -f 40; exec "$@"', "bash"]
  done = execute(limited + command(folder, f"--output={folder / 'out'}"))
  assert done.returncode == 2, done.stderr
  assert done.stderr.startswith("error: cannot write ")
  assert done.stderr.count("\n") == 1
  assert not (folder / "out").exists()


# What a shell starts in the background, tests too, inherits an ignored Ctrl-C.
HEED_INTERRUPTS = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_leaves_no_corpus_and_can_be_repeated(folder, number):
  (folder / "large.txt").write_text("\n\n".join([TEXT] * 100))
  output = folder / "out"
  process = subprocess.Popen(
    [sys.executable, "-c", HEED_INTERRUPTS]
    + command(folder, f"--output={output}", "--processes=2", files="large.txt"),
    cwd=ROOT,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )
  partial = folder / "out.partial"
  deadline = time.monotonic() + 60
  while not list(partial.glob("*.array_record")):
    assert process.poll() is None
    assert time.monotonic() < deadline
    time.sleep(0.02)
  process.send_signal(number)
  _, errors = process.communicate(timeout=60)
  assert not output.exists()
  if number == signal.SIGINT:
    assert (process.returncode, errors) == (130, "error: interrupted\n")
    assert not partial.exists()
  done = prepare(folder, f"--output={output}", "--processes=1")
  assert done.code == 0, done.err
  assert len(shards.Corpus.open(output)) > 200
  assert not partial.exists()

"""The flags of commands, which belong to one call."""

import importlib
import os
import runpy

import pytest
from absl import flags

from launch import __main__
from tests.commands import ROOT, mistake, python, run

CONFIG = """
from ml_collections import ConfigDict

def get_config(steps="10"):
  return ConfigDict({"steps": int(steps), "batch_size": 8})
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  folder = tmp_path_factory.mktemp("home")
  (folder / "config.py").write_text(CONFIG)
  return folder


def test_a_call_leaves_no_flags(home):
  for steps in ("--config.step=3", "--config.optimizer.nam=x"):
    found = mistake(
      "train", "--config=config.py", "--workdir=w", steps, cwd=home
    )
    assert found.startswith(steps[2:].split("=")[0] + ": unknown key")
  assert not {"config", "workdir", "config.step"} & set(flags.FLAGS)
  assert "workdir" in mistake("train", "--config=config.py", cwd=home)


@pytest.mark.parametrize(
  ("arguments", "expected"),
  [
    (["--workdr=w"], "Did you mean: workdir"),
    (["--workdir=w"], "--config: missing; see --help"),
    (["--config=config.py"], "--workdir: missing; see --help"),
    (["--config=config.py:ten", "--workdir=w"], "invalid literal for int()"),
    (["--config=config.py", "--workdir=w", "more"], "unexpected argument"),
    (["--config=config.py", "--workdir=w", "--config.steps=x"], "steps"),
    (["--config=config.py", "--workdir=w", "--config.steps.x=3"], "steps"),
    (["--config=config.py", "--workdir=w", "--noconfig.steps"], "noconfig"),
  ],
)
def test_a_mistake_in_a_flag_is_one_line(home, arguments, expected):
  assert expected in mistake("train", *arguments, cwd=home)


def test_help_lists_the_flags():
  code, out, err = run("train", "--help")
  assert (code, err) == (0, "")
  assert "--workdir" in out
  assert "--heartbeat_seconds" in out


def test_importing_a_command_sets_nothing_up():
  script = (
    "import os; before = dict(os.environ); import launch.train, bert_jax;"
    "assert 'JAX_COMPILATION_CACHE_DIR' not in os.environ, os.environ"
  )
  env = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMP")}
  python(script, env=env)


def test_the_commands_are_listed_and_misspelt_names_corrected(capsys):
  assert __main__.main([]) == 0
  lines = capsys.readouterr().out.splitlines()
  for name in __main__.COMMANDS:
    (line,) = [x for x in lines if x.startswith(f"  {name} ")]
    assert len(line.split()) > 3
    assert callable(importlib.import_module(f"launch.{name}").main)
  assert __main__.main(["trian"]) == 2
  assert "did you mean 'train'? known: " in capsys.readouterr().err
  assert __main__.main(["train", "--workdir=w"]) == 2
  assert capsys.readouterr().err == "error: --config: missing; see --help\n"


def test_the_wheel_adds_one_name(monkeypatch):
  setuptools = pytest.importorskip("setuptools")
  given = {}
  monkeypatch.setattr(setuptools, "setup", lambda **x: given.update(x))
  monkeypatch.chdir(ROOT)
  runpy.run_path("setup.py")
  packages, folders = given["packages"], given["package_dir"]
  assert {name.split(".")[0] for name in packages} == {"bert_jax"}
  for top in ("launch", "configs"):
    assert folders[f"bert_jax.{top}"] == top
    for path in (ROOT / top).rglob("*.py"):
      inside = path.relative_to(ROOT).parent.parts
      if inside == ("launch", "deploy"):
        continue  # Programs beside an image's files, for a checkout alone.
      assert ".".join(("bert_jax", *inside)) in packages, path

"""The floors of the house: imports go down, and heavy names stay put."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# From the ground up; names on one line are neighbours, which do not import
# each other.
FLOORS = [
  {"settings", "trees"},
  {"storage"},
  {"text"},
  {"types"},
  {"models"},
  {"data"},
  {"tasks"},
  {"interop"},
  {"cluster"},
  {"checkpointing"},
  {"training"},
  {"model", "predictor"},
  {"ensembling"},
  {"aot", "compression", "evaluation", "export", "serving", "interpret"},
]
MODULES = sorted((ROOT / "bert_jax").rglob("*.py"))
ONLY_IN = {
  "flax.linen": {"models", "interpret", "compression"},
  "orbax": {"checkpointing"},
  "grain": {"data"},
}
NEVER = {"tensorflow", "torch"}


def imported_names(path):
  """Every module that the file imports, wherever in the file."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f"{path}: imports are absolute"
      yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor_of(name):
  for number, names in enumerate(FLOORS):
    if name in names:
      return number
  raise AssertionError(f"bert_jax.{name} has no floor: add it to FLOORS")


def name_of(path):
  return path.relative_to(ROOT / "bert_jax").with_suffix("").parts[0]


@pytest.mark.parametrize(
  "path", MODULES, ids=lambda path: str(path.relative_to(ROOT))
)
def test_imports_go_down(path):
  own = name_of(path)
  if own == "__init__":
    return
  for name in imported_names(path):
    top, *rest = name.split(".")
    assert top not in {"launch", "configs", "tests", "benchmarks"}, name
    assert top not in NEVER, name
    for heavy, rooms in ONLY_IN.items():
      assert not f"{name}.".startswith(f"{heavy}.") or own in rooms, name
    if top == "bert_jax" and rest[0] != own:
      assert floor_of(rest[0]) < floor_of(own), f"{path} imports {name}"


def test_the_check_sees_an_import_that_goes_up(tmp_path):
  path = tmp_path / "module.py"
  path.write_text("def f():\n  from bert_jax.training import loop\n")
  assert list(imported_names(path)) == ["bert_jax.training.loop"]
  assert floor_of("data") < floor_of("training")


@pytest.mark.parametrize(
  "path",
  [
    path
    for folder in ("bert_jax", "configs", "launch", "benchmarks", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
  ],
  ids=lambda path: str(path.relative_to(ROOT)),
)
def test_files_and_functions_stay_short(path):
  source = path.read_text()
  assert source.count("\n") <= 300
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.FunctionDef):
      first = node.body[ast.get_docstring(node) is not None :] or node.body
      assert node.end_lineno - first[0].lineno < 60, node.name


def test_preparing_text_works_without_jax():
  # Each of its worker processes would import jax, and hold it in memory.
  done = subprocess.run(
    [sys.executable, "-c", "import launch.prepare, sys; print(*sys.modules)"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  assert not {"jax", "flax", "tensorflow"} & {*done.stdout.split()}

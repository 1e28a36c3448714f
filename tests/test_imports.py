"""The floors of the house: imports go down, and heavy names stay put."""

import ast

from tests.commands import ROOT, python

# From the ground up; names on one line are neighbours, which do not import
# each other.
FLOORS = [
  {"settings", "trees"},
  {"storage", "vectors"},
  {"text"},
  {"batch"},
  {"types"},
  {"models"},
  {"data"},
  {"tasks"},
  {"predictor"},
  {"interop"},
  {"cluster"},
  {"checkpointing"},
  {"training"},
  {"engines"},
  {"exported", "model"},
  {"loading"},
  {"ensembling"},
  {"aot", "compression", "evaluation", "export", "serving", "interpret"},
]
# Heavy or foreign names, and the modules that may import them.
ONLY_IN = {
  "absl.flags": {"data"},  # Grain reads them.
  "flax.linen": {"models", "interpret", "compression"},
  "grain": {"data"},
  "ml_collections": set(),
  "orbax": {"checkpointing"},
  "tensorflow": {"export"},
  "torch": set(),
}
# Above the package, or beside it.
ABOVE = {"benchmarks", "configs", "examples", "launch", "tests"}


def imported_names(path):
  """Every module that the file imports, wherever in the file."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      module = "." * node.level + (node.module or "")
      yield from (f"{module}.{alias.name}" for alias in node.names)


def floor_of(name):
  for number, names in enumerate(FLOORS):
    if name in names:
      return number
  raise AssertionError(f"bert_jax.{name} has no floor: add it to FLOORS")


def fault_of(own, name):
  """What is wrong with an import of `name` by a module of floor `own`."""
  top, *rest = name.split(".")
  if not top:
    return "imports are absolute"
  if top in ABOVE:
    return "not part of the package"
  for heavy, allowed in ONLY_IN.items():
    if f"{name}.".startswith(f"{heavy}.") and own not in allowed:
      return f"only in {sorted(allowed) or 'launch'}"
  if (
    top == "bert_jax" and rest[0] != own and floor_of(rest[0]) >= floor_of(own)
  ):
    return "imports go down"
  return None


def test_imports_go_down():
  faults = []
  for path in sorted((ROOT / "bert_jax").rglob("*.py")):
    own = path.relative_to(ROOT / "bert_jax").with_suffix("").parts[0]
    if own == "__init__":
      continue
    for name in imported_names(path):
      if fault := fault_of(own, name):
        faults.append(f"{path.relative_to(ROOT)} imports {name}: {fault}")
  assert not faults, "\n".join(faults)


def test_files_and_functions_stay_short():
  faults = []
  for folder in ("bert_jax", *ABOVE):
    for path in sorted((ROOT / folder).rglob("*.py")):
      source, where = path.read_text(), path.relative_to(ROOT)
      # A guard, and no style: files hold what a reader looks for together.
      if (lines := source.count("\n")) > 600:
        faults.append(f"{where}: {lines} lines")
      for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
          first = node.body[ast.get_docstring(node) is not None :] or node.body
          if node.end_lineno - first[0].lineno >= 120:
            faults.append(f"{where}: {node.name} is long")
  assert not faults, "\n".join(faults)


def test_a_published_model_predicts_without_what_training_needs():
  # Each would add to the time until the first answer.
  done = python("import launch.predict, sys; print(*sys.modules)")
  heavy = {"fsspec", "grain", "optax", "orbax", "scipy", "tensorboardX"}
  assert not heavy & {*done.stdout.split()}


# Without JAX: what exported models, and a server of them, are loaded with.
WITHOUT_JAX = (
  "batch",
  "checkpointing.manifest",
  "data.grouping",
  "loading",
  "models.config",
  "models.pooling",
  "predictor",
  "storage.checksums",
  "storage.folders",
  "tasks",
  "text",
)


def test_predictions_on_other_engines_work_without_jax():
  names = ", ".join(f"bert_jax.{name}" for name in WITHOUT_JAX)
  done = python(f"import {names}, sys; print(*sys.modules)")
  heavy = {"array_record", "flax", "fsspec", "grain", "jax", "matplotlib"}
  heavy |= {"optax", "orbax", "pandas", "scipy", "sklearn"}
  heavy |= {"tensorflow_datasets", "tensorflow"}
  assert not heavy & {*done.stdout.split()}


def test_preparing_text_works_without_jax():
  # Each of its worker processes would import jax, and hold it in memory.
  done = python("import launch.prepare, sys; print(*sys.modules)")
  assert not {"jax", "flax", "tensorflow"} & {*done.stdout.split()}

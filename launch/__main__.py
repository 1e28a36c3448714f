"""`bert-jax COMMAND ...`, or `python -m launch COMMAND ...` in a checkout."""

import ast
import difflib
import importlib
import os
import pathlib
import sys
from collections.abc import Sequence

from . import process

COMMANDS = (
  "prepare",
  "train",
  "sweep",
  "report",
  "predict",
  "score",
  "evaluate",
  "compress",
  "tradeoff",
  "convert",
  "export",
  "verify",
  "serve",
  "compile",
  "label_docs",
  "pairs",
)
_FOLDER = pathlib.Path(__file__).parent


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a command by its name; lists the commands if there is none."""
  name, *arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
  if name in ("-h", "--help", "help"):
    print(_help())
    return 0
  if name not in COMMANDS:
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    print(
      f"error: unknown command {name!r}; {hint}known: {', '.join(COMMANDS)}",
      file=sys.stderr,
    )
    return 2
  return importlib.import_module(f".{name}", __package__).main(arguments)


def script() -> None:
  """Runs the command line of this process, and ends it."""
  process.set_up()
  try:
    code = main()
    sys.stdout.flush()
  except BrokenPipeError:
    # The reader of the output, such as `head`, has ended.
    sys.stdout, code = open(os.devnull, "w"), 1  # noqa: SIM115
  sys.exit(code)


def _help() -> str:
  lines = ["usage: bert-jax COMMAND [--FLAG=VALUE ...]", ""]
  lines += [f"  {name:12}{_summary(name)}" for name in COMMANDS]
  return "\n".join([*lines, "", "bert-jax COMMAND --help lists its flags."])


def _summary(name: str) -> str:
  """The first line of a command's docstring; the command is not imported."""
  source = (_FOLDER / f"{name}.py").read_text(encoding="utf-8")
  return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


if __name__ == "__main__":
  script()

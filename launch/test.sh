#!/usr/bin/env bash
# Runs the linter and the whole test suite; arguments go to pytest.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
environment .venv --editable ".[dev]"

# Files that a user keeps here are not part of the project.
sources=(setup.py bert_jax benchmarks configs docs examples launch tests)
ruff check "${sources[@]}"
ruff format --check "${sources[@]}" README.md
# Each file in one process, so that its fixtures are made once.
exec python -m pytest --numprocesses "${TEST_PROCESSES:-2}" --dist loadfile \
  --no-loadscope-reorder "$@"

#!/usr/bin/env bash
# Runs the linter and the whole test suite; arguments go to pytest.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
environment .venv --editable ".[dev]"

ruff check .
ruff format --check .
exec python -m pytest --numprocesses "${TEST_PROCESSES:-2}" "$@"

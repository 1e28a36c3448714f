#!/usr/bin/env bash
# Compares bert_jax with its peers (PyTorch, Transformers) and prints a table.
#
#   launch/parity.sh [check ...]      such as: launch/parity.sh text
#
# The peers live in an environment of their own, .venv-parity, which the first
# run makes; PYTHON picks the interpreter it is made with.
set -euo pipefail
cd "$(dirname "$0")/.."

environment=.venv-parity
wanted=(torch==2.13.0 'transformers==4.57.*' pytest)
# Made anew where it was left half-made or is out of date.
stamp="$environment/made-with"
stamp_now="$(echo "${wanted[@]}" && cat requirements.txt)"
if [[ ! -f $stamp || "$(cat "$stamp")" != "$stamp_now" ]]; then
  "${PYTHON:-python3}" -m venv "$environment"
  "$environment/bin/python" -m pip install --quiet -e . "${wanted[@]}"
  echo "$stamp_now" > "$stamp"
fi

export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"
export TOKENIZERS_PARALLELISM="${TOKENIZERS_PARALLELISM:-false}"
exec "$environment/bin/python" -m tests.parity "$@"

#!/usr/bin/env bash
# Compares bert_jax with its peers (PyTorch, Transformers) and prints a table.
#
#   launch/parity.sh [check ...]      such as: launch/parity.sh text
#
# The peers live in an environment of their own, .venv-parity.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
environment .venv-parity --editable . torch==2.13.0 'transformers==4.57.*' pytest

export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"
export TOKENIZERS_PARALLELISM="${TOKENIZERS_PARALLELISM:-false}"
exec python -m tests.parity "$@"

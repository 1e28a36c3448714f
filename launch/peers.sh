#!/usr/bin/env bash
# Creates .venv-peers, the environment of the peers in benchmarks/: PyTorch and
# Transformers, the last Transformers with Flax, keras-hub on JAX, and the TPU
# compiler; and .venv-infinity, that of benchmarks/serving.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
(environment .venv-infinity 'infinity-emb[server,torch]==0.0.78' torch==2.13.0)
environment .venv-peers torch==2.13.0 'transformers==4.57.*' \
  'jax[tpu]==0.10.1' flax==0.12.8 optax==0.2.8 'keras==3.15.1' regex kagglehub
# Without its dependency TensorFlow, which only text preprocessing needs.
python -m pip install --quiet --no-deps keras-hub==0.32.0

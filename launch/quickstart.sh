#!/usr/bin/env bash
# Prepares a corpus from the documentation of the installed packages, pretrains
# a small BERT on it, fills a few masks and reports, all in runs/quickstart.
# Interrupted, it goes on where it stopped.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
environment .venv --editable .

run=runs/quickstart
config=configs/pretrain/quickstart.py
SECONDS=0

echo "== 1/4 The corpus: $run/corpus"
python -m launch.prepare --config $config --output $run/corpus

echo "== 2/4 Pretraining: $run"
python -m launch.train --config $config \
  --config.data.corpus=$run/corpus --workdir $run

echo "== 3/4 Filling masks"
for text in \
  "returns a new [MASK] with the same shape." \
  "raised if the file does not [MASK]." \
  "the default [MASK] is none."; do
  echo "$text"
  python -m launch.predict --model $run --text "$text"
done

echo "== 4/4 Results"
python -m launch.report --workdir $run
echo "Done in $((SECONDS / 60)) min $((SECONDS % 60)) s."

#!/usr/bin/env bash
# Prepares a corpus from the documentation of the installed packages, pretrains
# a small BERT on it, fills a few masks, fine-tunes the model to classify
# passages by package, and reports. Everything is in runs/quickstart. After an
# interruption, the same command resumes.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
environment .venv --editable .

run=runs/quickstart
config=configs/pretrain/quickstart.py
finetune=configs/finetune/quickstart.py
SECONDS=0

echo "== 1/5 The corpus: $run/corpus"
python -m launch.prepare --config $config --output $run/corpus

echo "== 2/5 Pretraining: $run"
python -m launch.train --config $config \
  --config.data.corpus=$run/corpus --workdir $run

echo "== 3/5 Filling masks"
for text in \
  "returns a new [MASK] with the same shape." \
  "raised if the file does not [MASK]." \
  "the default [MASK] is none."; do
  echo "$text"
  python -m launch.predict --model $run --text "$text"
done

echo "== 4/5 Fine-tuning: classifying documentation by package, with 20 labels of each"
python -m launch.label_docs --output $run/docs
python -m launch.train --config $finetune --config.init=$run \
  --workdir $run/package
echo "The same network from random values:"
python -m launch.train --config $finetune --config.init=$run \
  --config.finetuning.from_scratch=True --workdir $run/package_from_scratch
python -m launch.predict --model $run/package --top_k=3 \
  --text "Draws a line between the points on these axes."

echo "== 5/5 Results"
python -m launch.report --workdir $run --compare package=$run/package \
  --compare package_from_scratch=$run/package_from_scratch
echo "Done in $((SECONDS / 60)) min $((SECONDS % 60)) s."

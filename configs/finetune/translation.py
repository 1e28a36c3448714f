r"""English to German, from initial values: Multi30k (Elliott et al. 2016).

A prefix language model of 2.3 M parameters, with a vocabulary of both languages
that keeps case and spaces. Files have a sentence a line, and line n of both is
the same sentence; they may be compressed by gzip.

    bert-jax prepare --config configs/finetune/translation.py \
      --config.corpus.files=train.en,train.de --output corpora/en_de
    bert-jax train --config configs/finetune/translation.py \
      --config.data.train=train.en,train.de \
      --config.data.eval=val.en,val.de --workdir runs/en_de
    python -m benchmarks.writing multi30k --train train.en train.de \
      --eval test.en test.de --model runs/en_de

Cost: half an hour of updates on two cores, or an hour on one; an epoch is 454
updates of 64 sentences, 1.1 million tokens.

Result: sacreBLEU 37.0 on the 2016 test set with 4 beams, 35.7 greedily, after
an hour of one core (6,300 updates). Floors: the source itself 0.5, word by word
6.9, the target of the nearest neighbour 7.9. To compare with: about 35 to 41
for small Transformers that are trained longer.
"""

from ml_collections import ConfigDict

from .. import common


def get_config() -> ConfigDict:
  config = common.writer("corpora/en_de", max_target_length=64)
  config.corpus = common.parallel_corpus("train.en,train.de", 4096)
  config.batch_size = 64
  # The text is seen some ten times.
  config.model.hidden_dropout = 0.1
  config.data.update(
    format="parallel",
    train="train.en,train.de",
    eval="val.en,val.de",
    max_length=128,
    length_buckets=(32, 40, 48, 64),
  )
  return config

r"""Java to C#, from initial values: CodeXGLUE (arXiv:2102.04664).

A prefix language model of 2.3 M parameters: functions are read in both
directions and written from left to right. Files have a function a line, and
line n of both is the same function. First the vocabulary, which keeps case and
spaces, then the training, and the table of floors, ours and published figures:

    bert-jax prepare --config configs/finetune/code_translation.py \
      --config.corpus.files=train.java,train.cs --output corpora/java_cs
    bert-jax train --config configs/finetune/code_translation.py \
      --config.data.train=train.java,train.cs \
      --config.data.eval=valid.java,valid.cs --workdir runs/java_cs
    python -m benchmarks.writing java_cs --train train.java train.cs \
      --eval test.java test.cs --model runs/java_cs

CodeXGLUE's BLEU counts the tokens between white space: `bleu_whitespace`.

Cost: half an hour of updates on two cores, or an hour on one; an epoch is 322
updates of 32 functions, 1.1 million tokens.

Result: exact match 0.530 and `bleu_whitespace` 71.0 on the 1,000 functions of
the test set, written greedily (`--num_beams 1`), after an hour of one core
(3,300 updates). Floors: the source itself 0 and 18.7; the target of the nearest
neighbour 0.023 and 31.9, with names exchanged 0.122 and 39.3. To compare with:
CodeXGLUE reports 0.330 and 55.8 for a Transformer from scratch, 0.590 and 79.9
for CodeBERT.
"""

from ml_collections import ConfigDict

from .. import common


def get_config() -> ConfigDict:
  config = common.writer("corpora/java_cs", max_target_length=256)
  config.corpus = common.parallel_corpus("train.java,train.cs", 4096)
  config.data.update(
    format="parallel",
    train="train.java,train.cs",
    eval="valid.java,valid.cs",
    max_length=512,
    length_buckets=(64, 96, 128, 192, 256, 384),
  )
  return config

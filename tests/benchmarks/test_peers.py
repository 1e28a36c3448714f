"""Our implementation; those of the peers need other environments."""

import numpy as np

from benchmarks import batches, cases, peers
from benchmarks.peers import Job, ours


def test_training(corpus, case, tmp_path):
  chosen = case("training", 128, True)
  made = cases.config(
    chosen,
    corpus.folder,
    4,
    {"model.dtype": "bfloat16", "model.num_layers": 1, "seed": 3},
  )
  assert made["model"]["dtype"] == "bfloat16" and made["seed"] == 3
  found = batches.write_rows(chosen, made, 2, 1, tmp_path / "rows.npz")
  run = ours.training(Job(module="ours", kind="training", config=made))
  # Nothing is learned yet: any word of the vocabulary is as likely.
  expected = np.log(cases.VOCABULARY)
  assert abs(run(peers.load(found.path)) - expected) < 0.5

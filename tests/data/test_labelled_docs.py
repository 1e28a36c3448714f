"""The data set of the quickstart's fine-tuning."""

import collections
import json

from bert_jax.data.sources import labelled_docs


def test_splits_have_few_and_many_records_and_no_module_in_common(
  tmp_path, monkeypatch
):
  modules = [
    {
      "label": f"package{package}",
      "text": "\n\n".join(
        f"Passage {n} of module {module} of package {package}. {'x' * 300}"
        for n in range(3 + package)
      ),
    }
    for package in range(labelled_docs.LABELS + 1)
    for module in range(20)
  ]
  monkeypatch.setattr(
    labelled_docs.installed_docs, "open_source", lambda *_: modules
  )
  counts = labelled_docs.write(tmp_path, train=4, evaluation=15)
  assert counts == {"train": 8 * 4, "eval": 8 * 15}
  found = {}
  for split in counts:
    lines = (tmp_path / f"{split}.jsonl").read_text().splitlines()
    found[split] = [json.loads(line) for line in lines]
    sizes = collections.Counter(row["label"] for row in found[split])
    # The package with the fewest passages has no label.
    assert sizes == {f"package{n + 1}": counts[split] // 8 for n in range(8)}

  def sources(split):
    return {row["text"].split(" of ", 1)[1] for row in found[split]}

  assert not sources("train") & sources("eval")

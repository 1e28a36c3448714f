import gzip
import json

from benchmarks import scores


def test_the_verdict_is_of_the_fastest_peer_by_round():
  rates = {
    "ours": [30.0, 40.0, 90.0],
    "ours-one": [9.0, 9.0, 9.0],
    "minicons-1": [10.0, 10.0, 10.0],
    "minicons-8": [10.0, 20.0, 30.0],
  }
  found = scores.verdict(rates)
  assert (
    found == "ours scores 3.00 times the sentences per second of minicons-8"
  )
  assert scores.verdict({"ours": [1.0]}) == "nothing to compare"


def test_sentences_are_lines_that_are_not_blank(tmp_path):
  path = tmp_path / "text.gz"
  path.write_bytes(gzip.compress(b"one \n\n two\nthree\n"))
  assert scores.read(str(path), 2) == ["one", "two"]


def test_a_worker_scores_once_for_each_line(tmp_path, monkeypatch, capsys):
  texts = ["it", "a list"]
  (tmp_path / "sentences.json").write_text(json.dumps(texts))
  monkeypatch.setattr(
    scores, "ours", lambda engine, folder: lambda given: list(map(len, given))
  )
  monkeypatch.setattr("sys.stdin", ["\n", "\n"])
  scores.work("ours-one", tmp_path, 2)
  rounds = map(json.loads, capsys.readouterr().out.splitlines())
  assert [x["scores"] for x in rounds] == [[2, 6]] * 2

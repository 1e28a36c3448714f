from benchmarks import generation


def test_the_verdict_compares_rounds_with_the_aims():
  seconds = {
    "ours": [1.0, 2.0, 4.0],
    "torch": [1.0, 3.0, 8.0],
    "anew": [4.0, 8.0, 20.0],
  }
  assert generation.verdict(seconds) == (
    "4.00 times as fast as anew (5: missed),"
    " 1.50 times as fast as torch (1.5: reached)"
  )
  failed = {"ours": [1.0], "torch": []}
  assert generation.verdict(failed) == "nothing to compare"

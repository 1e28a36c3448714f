from benchmarks import export


def test_the_verdict_is_of_the_fastest_exact_engine():
  seconds = {
    "torch": [2.0, 3.0, 4.0],
    "jax": [2.0, 2.0, 2.0],
    "onnx": [1.0, 1.0, 2.0],
    "onnx-8-bits": [0.1, 0.1, 0.1],
    "openvino": [],
  }
  found = export.verdict("1 x 16", seconds)
  assert found == "1 x 16: onnx is 2.00 times as fast as torch"
  assert export.verdict("1 x 16", {"torch": []}).endswith("nothing to compare")

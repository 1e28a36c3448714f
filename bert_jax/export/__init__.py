"""Models for other programs to run: ONNX and more."""

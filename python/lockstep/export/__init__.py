"""Step graphs for ONNX Runtime."""

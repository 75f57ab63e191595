"""Models for other runtimes: StableHLO and ONNX files, checked against the model."""

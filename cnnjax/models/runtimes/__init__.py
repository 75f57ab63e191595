"""Models for other runtimes: StableHLO and ONNX files, checked against the model."""

from cnnjax.models.runtimes.portable import Exported, export

__all__ = ["Exported", "export"]

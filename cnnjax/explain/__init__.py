"""Looking inside a model: (model, images) -> arrays."""

from cnnjax.explain.activations import activations

__all__ = ["activations"]

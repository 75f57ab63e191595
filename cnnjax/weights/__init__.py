"""Weight files: {layer: {weight: array}} to and from disk."""

from cnnjax.weights.arrays import DamagedWeights, load_safetensors, save_safetensors

__all__ = ["DamagedWeights", "load_safetensors", "save_safetensors"]

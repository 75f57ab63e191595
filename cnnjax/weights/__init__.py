"""Weight files: {layer: {weight: array}} to and from disk; no model is known here."""

from cnnjax.weights.arrays import load_safetensors, save_npz, save_safetensors
from cnnjax.weights.foreign import FORMATS
from cnnjax.weights.keras_files import write_weights_h5
from cnnjax.weights.read import read_weights
from cnnjax.weights.stored import DamagedWeights, KerasLayer, StoredLayer, StoredWeights

__all__ = [
    "FORMATS",
    "DamagedWeights",
    "KerasLayer",
    "StoredLayer",
    "StoredWeights",
    "load_safetensors",
    "read_weights",
    "save_npz",
    "save_safetensors",
    "write_weights_h5",
]

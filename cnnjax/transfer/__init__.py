"""Transfer learning: heads of one's own, what to freeze, features on disk."""

from cnnjax.transfer.base_layers import base_layers, layers_before
from cnnjax.transfer.features import extract_features
from cnnjax.transfer.heads import Head, attach, replace_head

__all__ = [
    "Head",
    "attach",
    "base_layers",
    "extract_features",
    "layers_before",
    "replace_head",
]

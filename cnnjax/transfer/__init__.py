"""Transfer learning: heads of one's own, what to freeze, low-rank adapters, features on disk."""

from cnnjax.transfer.base_layers import base_layers, layers_before
from cnnjax.transfer.features import extract_features
from cnnjax.transfer.heads import Head, attach, replace_head
from cnnjax.transfer.lora import lora, merged

__all__ = [
    "Head",
    "attach",
    "base_layers",
    "extract_features",
    "layers_before",
    "lora",
    "merged",
    "replace_head",
]

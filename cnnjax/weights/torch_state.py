"""A state dict as PyTorch names it: what is wrapped around it off, its arrays by layer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from cnnjax.weights.stored import DamagedWeights, StoredLayer, StoredWeights, as_weight

# What DataParallel, torch.compile, Lightning and others put before every name.
_WRAPPERS = ("module", "_orig_mod", "model", "net", "backbone")

# Counters that play no part in what a net computes.
_COUNTERS = re.compile(r"(.*\.)?(num_batches_tracked|n_averaged)")

_NAME = re.compile(
    r"(.*\.)?(weight|bias|running_mean|running_var|num_batches_tracked|weight_[ih]h_l[0-9]+)"
)


def has_torch_names(names: Iterable[str]) -> bool:
    """Whether arrays are named as a state dict names them, and not layer/weight.

    >>> has_torch_names(["conv1.weight", "bn1.running_mean"]), has_torch_names(["conv1/kernel"])
    (True, False)
    """
    names = list(names)
    return not any("/" in name for name in names) and any(map(_NAME.fullmatch, names))


def is_counter(name: str) -> bool:
    """Whether an array only counts steps."""
    return _COUNTERS.fullmatch(name) is not None


def torch_weights(
    path: Path, arrays: Mapping[str, np.ndarray], unwrapped: tuple[str, ...] = ()
) -> StoredWeights:
    """The layers of a state dict; names and layouts stay PyTorch's.

    Args:
        path: of the file.
        arrays: by their names, e.g. "layer1.0.conv1.weight".
        unwrapped: what was around them in the file already.

    Raises:
        DamagedWeights: if there are none, or one is not floating-point and no counter.
    """
    wrappers = list(unwrapped)
    kept = {name: array for name, array in arrays.items() if not is_counter(name)}
    while wrapper := _common(kept):
        kept = {name.removeprefix(f"{wrapper}."): array for name, array in kept.items()}
        wrappers.append(f"{wrapper}.")
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name, array in kept.items():
        layer, _, weight = name.rpartition(".")
        layers.setdefault(layer, {})[weight] = as_weight(array, path, name)
    if not layers:
        raise DamagedWeights(f"{path} holds no arrays")
    stored = tuple(StoredLayer(name, "", found) for name, found in layers.items())
    return StoredWeights(path, stored, positional=False, torch=True, unwrapped=tuple(wrappers))


def _common(names: Iterable[str]) -> str:
    """The wrapper that all names begin with; "" where there is none."""
    first = {name.partition(".")[0] for name in names if "." in name} or {""}
    whole = all("." in name for name in names)
    return next((w for w in _WRAPPERS if whole and first == {w}), "")

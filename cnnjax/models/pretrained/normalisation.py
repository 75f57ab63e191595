"""The layer with which some of Keras' nets normalise pixels themselves, which is no layer here."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
from flax import linen

from cnnjax.models.pretrained.order import WeightsDoNotFit
from cnnjax.models.scaling import scaling
from cnnjax.models.spec import ModelSpec
from cnnjax.weights import KerasLayer, StoredLayer, StoredWeights

_NAME = re.compile(r"normalization(_\d+)?")

# The published files' net divides by these twice: once as if they were variances, and once more in
# a layer that the files do not mention.
_DEVIATIONS = (0.229, 0.224, 0.225)


def without_normalisation(
    stored: StoredWeights, module: linen.Module, spec: ModelSpec
) -> StoredWeights:
    """A file without the weights of the layer that normalises pixels, which become preprocessing.

    Args:
        stored: the file.
        module: of the model; nets whose files have that layer say in `keras_rescaling` by what
            Keras multiplies pixels before it.
        spec: of the model.

    Raises:
        WeightsDoNotFit: if the model's preprocessing does something else to the pixels.
    """
    factor = getattr(module, "keras_rescaling", None)
    layer = next((one for one in stored.layers if _normalises(one, spec)), None)
    if factor is None or layer is None:
        return stored
    mean, variance, *_ = (np.ravel(array) for array in layer.arrays.values())
    settings: dict[str, Any] = {"mean": mean, "variance": variance}
    kept = tuple(one for one in stored.layers if one is not layer)
    if stored.net:  # which is compared as a whole
        net = [
            replace(one, settings={**one.settings, **settings}) if one is layer.described else one
            for one in stored.net
        ]
        return replace(stored, layers=kept, net=tuple(net))
    front = [
        KerasLayer("", "Rescaling", (), (), {"scale": factor}),
        KerasLayer("", "Normalization", (), (), settings),
    ]
    if np.allclose(variance, _DEVIATIONS, rtol=1e-3):
        front.append(KerasLayer("", "Rescaling", (), (), {"scale": 1 / np.sqrt(_DEVIATIONS)}))
    theirs = scaling(front, spec)
    if theirs.fitting is not None and spec.inputs.name not in (*theirs.fitting, "none"):
        right = repr(theirs.fitting[0]) if theirs.fitting else "'none', and do so to the images"
        raise WeightsDoNotFit(
            f"{stored.path} holds a net that takes the mean {_row(mean)} from pixels / "
            f"{1 / factor:g} and divides by the root of {_row(variance)}, not "
            f"preprocessing={spec.inputs.name!r}: create the model with preprocessing={right}"
        )
    return replace(stored, layers=kept)


def _normalises(layer: StoredLayer, spec: ModelSpec) -> bool:
    """Whether it has mean and variance, and perhaps a count, as Keras' Normalization has."""
    if layer.kind != "normalization" and not _NAME.fullmatch(layer.name):
        return False
    sizes = [array.size for array in layer.arrays.values()]
    return sizes[:2] == [spec.input_shape[-1]] * 2 and len(sizes) <= 3


def _row(values: np.ndarray) -> str:
    return f"({', '.join(f'{value:.4g}' for value in values)})"

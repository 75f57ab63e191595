"""What timm says on a hub of its weights, beside them: which net they are for, on which pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnnjax.core.hub import HubPlace, hub_beside
from cnnjax.core.reading import parse_json
from cnnjax.core.text import plain
from cnnjax.models.pretrained.order import WeightsDoNotFit
from cnnjax.models.scaling import scaling
from cnnjax.models.spec import ModelSpec
from cnnjax.weights import KerasLayer, StoredWeights

_FILE = "config.json"


def read(place: HubPlace) -> dict[str, Any]:
    """The configuration beside a file of a hub; {} without one.

    Args:
        place: as `hub_file` returned it.

    Raises:
        WeightsDoNotFit: if it is not readable.
    """
    file = hub_beside(place, _FILE)
    try:
        config = parse_json(file.read_bytes()) if file else {}
    except ValueError as error:
        raise WeightsDoNotFit(f"{place}: {_FILE} beside it is not readable: {error}") from None
    return config if isinstance(config, dict) else {}


def architecture(stored: StoredWeights) -> str:
    """timm's name of the net that weights are for; "" where nothing says so."""
    name = stored.config.get("architecture")
    return name if isinstance(name, str) else ""


def needed_preprocessing(stored: StoredWeights, spec: ModelSpec) -> str:
    """Our name of the preprocessing that weights need; "" where nothing says so.

    Args:
        stored: the file, with the configuration beside it.
        spec: of the model.

    Raises:
        WeightsDoNotFit: if none here does as they need.
    """
    mean, deviation = (_row(stored, name) for name in ("mean", "std"))
    if mean is None or deviation is None or len(mean) != spec.input_shape[-1]:
        return ""
    settings = {"mean": np.array(mean), "variance": np.square(deviation)}
    theirs = scaling(
        [
            KerasLayer("", "Rescaling", (), (), {"scale": 1 / 255}),
            KerasLayer("", "Normalization", (), (), settings),
        ],
        spec,
    )
    if not theirs.fitting:
        raise WeightsDoNotFit(
            f"{stored.named} needs pixels / 255 less the mean {mean}, divided by {deviation}, "
            "which no preprocessing here does: give one of your own, preprocessing=FUNCTION"
        )
    return theirs.fitting[0]


def crop(stored: StoredWeights) -> float | None:
    """The share of the side that their evaluation keeps; None where nothing says so."""
    share = _weights(stored).get("crop_pct")
    return float(share) if isinstance(share, int | float) and 0 < share <= 1 else None


def check_architecture(stored: StoredWeights, known: set[str], name: str) -> None:
    """Refuse weights of a net that has the names and shapes of a model here and is another one.

    Args:
        stored: the file, with the configuration beside it.
        known: timm's names of nets that compute as the model can.
        name: of the model.

    Raises:
        WeightsDoNotFit: if they are of another one.
    """
    theirs = architecture(stored)
    if theirs and theirs not in known:
        raise WeightsDoNotFit(
            f"{stored.named} is timm's {plain(repr(theirs), 60)}, which computes something else "
            f"than {name} with weights of the same names: expected {' or '.join(sorted(known))}"
        )


def _weights(stored: StoredWeights) -> dict[str, Any]:
    inner = stored.config.get("pretrained_cfg", stored.config)
    return inner if isinstance(inner, dict) else {}


def _row(stored: StoredWeights, name: str) -> tuple[float, ...] | None:
    """A number for each channel, all finite; deviations above 0."""
    values = _weights(stored).get(name)
    if not isinstance(values, list) or not values:
        return None
    numbers = [v for v in values if isinstance(v, int | float) and math.isfinite(v)]
    if len(numbers) != len(values) or (name == "std" and min(numbers) <= 0):
        return None
    return tuple(map(float, numbers))

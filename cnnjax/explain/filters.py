"""What the filters of a layer look for: inputs that excite them, found by gradient ascent."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from cnnjax.core import rng
from cnnjax.core.checks import whole_number
from cnnjax.explain.ascent import Patterns, check_ascent, climb
from cnnjax.explain.cut import cut_at, map_shape
from cnnjax.explain.pattern_recipes import RECIPES
from cnnjax.models import Model

_MANY = 64  # filters drawn unless asked otherwise
_LARGEST = 4096  # pixels of a side: a pattern of more does not fit beside what is made of it


class DeadFilters(UserWarning):
    """Some filters have a gradient of zero: what is shown of them is the noise at the beginning."""


def filter_patterns(
    model: Model,
    layer: str,
    filters: Sequence[int] | None = None,
    size: int = 64,
    steps: int = 40,
    seed: int = 0,
    recipe: str = "classic",
) -> np.ndarray:
    """Patterns that excite filters of a layer, one a filter; all filters are one batch.

    Kernels are shared by all images of a batch, so that a batch of one image a filter is an
    ordinary convolution. Only the layers up to the asked one are computed, and these at the asked
    size, whatever the model's own is.

    "classic" (Chollet 2017, Deep learning with Python, sec. 5.4.2) maximises the mean over space of
    the layer's output a_f, after its activation: from `x = 20 u + 128`, u uniform in [0, 1), by
    `x <- x + g / (sqrt(mean(g^2)) + 1e-5)`, `g = d mean(a_f) / dx`, and shows
    `clip(0.1 (x - mean) / (std + 1e-5) + 0.5, 0, 1)`. Here x is what `model(...)` takes, without
    preprocessing, in the order of its channels: BGR for the VGGs and ResNet50.

    "fourier" (Olah et al. 2017, Feature visualization) takes the value v before the activation, so
    that no filter stays silent, and maximises the mean of `max(v, 0) + 0.1 min(v, 0)`, with Adam
    on the Fourier coefficients of an image of decorrelated colours, which is moved, scaled and
    turned at random in every step. The image is RGB in [0, 1]; 255 times it goes through
    `model.spec.preprocess`, so that a model with preprocessing "none" is shown values in [0, 255]:
    where it takes others, give it the preprocessing that makes them of pixels.

    Args:
        model: any; a head is not needed.
        layer: one of `model.layer_names`, with maps.
        filters: numbers of the filters; None takes the first 64, or all if there are fewer.
        size: height and width of the patterns, >= 1.
        steps: of the ascent, >= 1.
        seed: of the noise at the beginning, in [0, 2^32). A filter's noise depends on the seed and
            its number only, so that alone it gets the pattern that it gets among others, as far
            as rounding at the kinks of ReLU and max pooling leaves it.
        recipe: "classic" or "fourier".

    Returns:
        float32 [F, size, size, C] in [0, 1], where C is the model's number of channels.

    Raises:
        ValueError: for a layer that does not exist or has no maps, a filter that it does not have,
            a size too small for it, or another recipe.

    Warns:
        DeadFilters: names the filters whose gradient is zero.

    >>> import cnnjax as cj
    >>> model = cj.create_model("lenet")
    >>> cj.explain.filter_patterns(model, "conv2", filters=[3, 7], size=16, steps=2).shape
    (2, 16, 16, 1)
    """
    found = find_patterns(model, layer, filters, size, steps, seed, recipe)
    if found.dead:
        warnings.warn(DeadFilters(describe_dead(layer, found.dead)), stacklevel=2)
    return found.images


def dead_filters(
    model: Model,
    layer: str,
    filters: Sequence[int] | None = None,
    size: int = 64,
    seed: int = 0,
    recipe: str = "classic",
) -> tuple[int, ...]:
    """Numbers of the filters that noise does not reach: their gradient is zero, as it will stay.

    Args:
        model, layer, filters, size, seed, recipe: as in `filter_patterns`.

    Returns:
        Those of the filters that `filter_patterns` warns of, in their order.

    Raises:
        ValueError: as `filter_patterns` does.
    """
    return find_patterns(model, layer, filters, size, 1, seed, recipe).dead


def describe_dead(where: str, dead: Sequence[int], what: str = "filter") -> str:
    """A sentence that names dead filters of a layer, or dead classes of a model.

    >>> describe_dead("conv1", (3, 7))
    'conv1: the gradient of filters 3, 7 is zero (dead): their patterns are noise'
    """
    whose = "its pattern is"
    if len(dead) > 1:
        what, whose = what + ("es" if what.endswith("s") else "s"), "their patterns are"
    numbers = ", ".join(map(str, dead))
    return f"{where}: the gradient of {what} {numbers} is zero (dead): {whose} noise"


def find_patterns(
    model: Model,
    layer: str,
    filters: Sequence[int] | None = None,
    size: int = 64,
    steps: int = 40,
    seed: int = 0,
    recipe: str = "classic",
) -> Patterns:
    """`filter_patterns` with the numbers of the filters, and the dead ones instead of a warning."""
    check_ascent(recipe, steps)
    size = whole_number("size", size, most=_LARGEST)
    count = map_shape(model, layer, size)[2]
    numbers = _checked_filters(filters, layer, count)
    cut = cut_at(model, layer, RECIPES[recipe].before_activation)
    key = rng.stream(seed, "filter_patterns")
    return climb(model, cut, numbers, size, steps, key, recipe)


def _checked_filters(filters: Sequence[int] | None, layer: str, count: int) -> tuple[int, ...]:
    if filters is None:
        return tuple(range(min(count, _MANY)))
    array = np.atleast_1d(np.asarray(filters))
    if array.ndim != 1 or not array.size or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"filters must be whole numbers, or None for the first 64, got {filters!r}"
        )
    numbers = tuple(map(int, array))
    for number in numbers:
        if not 0 <= number < count:
            raise ValueError(
                f"layer {layer!r} has no filter {number}: its {count} filters are 0 to {count - 1}"
            )
    return numbers

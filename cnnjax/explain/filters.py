"""What the filters of a layer look for: inputs that excite them, found by gradient ascent."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax import paths, rng
from cnnjax.explain.cut import Cut, cut_at, map_shape
from cnnjax.explain.recipes import RECIPES
from cnnjax.models import Model
from cnnjax.models.model import Variables
from cnnjax.models.spec import PREPROCESSING

_MANY = 64  # filters drawn unless asked otherwise
# Filters at once, as pixels: on CPUs more need more memory and are a little slower.
_PIXELS = {"cpu": 4 * 64 * 64}
_PIXELS_ELSEWHERE = 256 * 64 * 64


class DeadFilters(UserWarning):
    """Some filters have a gradient of zero: what is shown of them is the noise at the beginning."""


@dataclass(frozen=True)
class Patterns:
    """What excites the filters of a layer.

    Args:
        images: float32 [F, size, size, C] in [0, 1].
        filters: which filters, F of them.
        dead: those of them whose gradient was zero, so that the noise never changed.
    """

    images: np.ndarray
    filters: tuple[int, ...]
    dead: tuple[int, ...]


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

    Kernels are shared by all pictures of a batch, so that a batch of one picture a filter is an
    ordinary convolution. Only the layers up to the asked one are computed, and these at the asked
    size, whatever the model's own is.

    "classic" (Chollet 2017, Deep learning with Python, sec. 5.4.2) maximises the mean over space of
    the layer's output a_f, after its activation: from `x = 20 u + 128`, u uniform in [0, 1), by
    `x <- x + g / (sqrt(mean(g^2)) + 1e-5)`, `g = d mean(a_f) / dx`, and shows
    `clip(0.1 (x - mean) / (std + 1e-5) + 0.5, 0, 1)`. Here x is what `model(...)` takes, without
    preprocessing, in the order of its channels: BGR for the VGGs and ResNet50.

    "fourier" (Olah et al. 2017, Feature visualization) takes the value v before the activation, so
    that no filter stays silent, and maximises the mean of `max(v, 0) + 0.1 min(v, 0)`, with Adam
    on the Fourier coefficients of a picture of decorrelated colours, which is moved, scaled and
    turned at random in every step. The picture is RGB in [0, 1]; 255 times it goes through
    `model.spec.preprocess`.

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


def describe_dead(layer: str, dead: Sequence[int]) -> str:
    """A sentence that names dead filters.

    >>> describe_dead("conv1", (3, 7))
    'conv1: the gradient of filters 3, 7 is zero (dead): their patterns are noise'
    """
    several = len(dead) > 1
    who, whose = ("filters", "their patterns are") if several else ("filter", "its pattern is")
    numbers = ", ".join(map(str, dead))
    return f"{layer}: the gradient of {who} {numbers} is zero (dead): {whose} noise"


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
    if recipe not in RECIPES:
        raise ValueError(
            f"there is no recipe {recipe!r}. {paths.suggest(recipe, RECIPES, 'recipes')}"
        )
    size, steps = _at_least_one(size, "size"), _at_least_one(steps, "steps")
    count = map_shape(model, layer, size)[2]
    numbers = _checked_filters(filters, layer, count)
    cut = cut_at(model, layer, RECIPES[recipe].before_activation)
    key = rng.stream(seed, "filter_patterns")
    images, dead = [], []
    for chunk in _chunks(numbers, size):
        pictures, silent = _ascended(
            _Ascent(recipe, cut, model.spec.preprocessing, size, model.spec.input_shape[2]),
            steps, model.variables, jnp.asarray(chunk, jnp.int32), key,
        )  # fmt: skip
        images.append(np.asarray(pictures))
        dead.append(np.asarray(silent))
    # The last chunk is as long as the others, so that nothing compiles twice.
    silent_ones = np.concatenate(dead)[: len(numbers)]
    return Patterns(
        np.concatenate(images)[: len(numbers)],
        numbers,
        tuple(n for n, silent in zip(numbers, silent_ones, strict=True) if silent),
    )


@dataclass(frozen=True)
class _Ascent:
    """What a compiled step is made for."""

    recipe: str
    cut: Cut
    preprocessing: str
    size: int
    channels: int


def _ascended(
    ascent: _Ascent, steps: int, variables: Variables, filters: Array, key: Array
) -> tuple[Array, Array]:
    """Pictures [F, S, S, C] of filters [F], and which of them are dead."""
    keys, state = _begin(ascent, filters, key)
    state, dead = _step(ascent, variables, filters, keys, jnp.int32(0), state)
    if jax.default_backend() == "cpu":
        # XLA:CPU runs the convolutions of a compiled loop on a single thread.
        for number in range(1, steps):
            state, _ = _step(ascent, variables, filters, keys, jnp.int32(number), state)
    else:
        state = _many_steps(ascent, variables, filters, keys, jnp.int32(steps), state)
    return _picture(ascent, state), dead


@functools.partial(jax.jit, static_argnums=0)
def _begin(ascent: _Ascent, filters: Array, key: Array) -> tuple[Array, Any]:
    keys = jax.vmap(lambda number: rng.at(key, number))(filters)
    return keys, RECIPES[ascent.recipe].begin(keys, ascent.size, ascent.channels)


@functools.partial(jax.jit, static_argnums=0)
def _step(
    ascent: _Ascent, variables: Variables, filters: Array, keys: Array, number: Array, state: Any
) -> tuple[Any, Array]:
    recipe = RECIPES[ascent.recipe]

    def objective(inputs: Array) -> Array:
        maps = ascent.cut(variables, inputs, filters)
        return jnp.mean(recipe.excitement(maps), axis=(1, 2, 3))

    return recipe.step(objective, PREPROCESSING[ascent.preprocessing], keys, number, state)


@functools.partial(jax.jit, static_argnums=0)
def _many_steps(
    ascent: _Ascent, variables: Variables, filters: Array, keys: Array, steps: Array, state: Any
) -> Any:
    """Steps 1 to `steps` - 1, as one program."""

    def body(number: Array, state: Any) -> Any:
        return _step(ascent, variables, filters, keys, number, state)[0]

    return jax.lax.fori_loop(1, steps, body, state)


@functools.partial(jax.jit, static_argnums=0)
def _picture(ascent: _Ascent, state: Any) -> Array:
    return RECIPES[ascent.recipe].picture(state)


def _chunks(filters: Sequence[int], size: int) -> Iterator[list[int]]:
    """Parts of one length that fit into memory; the last filter fills up the last of them."""
    pixels = _PIXELS.get(jax.default_backend(), _PIXELS_ELSEWHERE)
    count = -(-len(filters) // max(pixels // size**2, 1))
    length = -(-len(filters) // count)
    for start in range(0, len(filters), length):
        chunk = list(filters[start : start + length])
        yield chunk + chunk[-1:] * (length - len(chunk))


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


def _at_least_one(value: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be a whole number >= 1, got {value!r}")
    return int(value)

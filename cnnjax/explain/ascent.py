"""Gradient ascent in input space: images that make a score larger, a whole batch at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.core import rng
from cnnjax.core.checks import whole_number
from cnnjax.core.text import suggest
from cnnjax.explain.pattern_recipes import RECIPES
from cnnjax.models import Model
from cnnjax.models.modules import Variables

# (variables, preprocessed inputs [N, S, S, C], of each the number of a filter or class: int32 [N])
# -> values [N, H, W, 1] whose mean is to become large. Hashable: a static argument of jit.
Score: TypeAlias = Callable[[Variables, Array, Array], Array]

# Images at once, in pixels: on CPUs more need more memory and are a little slower.
_PIXELS = {"cpu": 4 * 64 * 64}
_PIXELS_ELSEWHERE = 256 * 64 * 64


@dataclass(frozen=True)
class Patterns:
    """Images that excite filters of a layer, or for which a model sees a class.

    Args:
        images: float32 [F, size, size, C] in [0, 1].
        numbers: of the filters or classes, F of them.
        dead: those of them whose gradient was zero, so that the noise never changed.
    """

    images: np.ndarray
    numbers: tuple[int, ...]
    dead: tuple[int, ...]


@dataclass(frozen=True)
class Ascent:
    """What is climbed, and how; the compiled steps are made for it.

    Args:
        score: see `Score`.
        recipe: name of one of `RECIPES`.
        preprocess: the model's, pixels to inputs.
        size: height and width of the images.
        channels: of the images.
    """

    score: Score
    recipe: str
    preprocess: Callable[[Array], Array]
    size: int
    channels: int


def check_ascent(recipe: str, steps: int) -> None:
    """Refuse a recipe that does not exist (offers the nearest), and less than one step."""
    if recipe not in RECIPES:
        raise ValueError(f"there is no recipe {recipe!r}. {suggest(recipe, RECIPES, 'recipes')}")
    whole_number("steps", steps)


def climb(
    model: Model, score: Score, numbers: Sequence[int], size: int, steps: int, key: Array,
    recipe: str,
) -> Patterns:  # fmt: skip
    """Patterns for filters or classes of a model, in parts that fit into memory.

    Args:
        model: its variables, preprocessing and number of channels.
        score: see `Score`.
        numbers: at least one, of filters or classes.
        size: height and width of the patterns.
        steps: of the ascent, >= 1.
        key: of the noise at the beginning; that of each pattern depends on its number too.
        recipe: name of one of `RECIPES`.
    """
    channels = model.spec.input_shape[2]
    ascent = Ascent(score, recipe, model.spec.inputs.preprocess, size, channels)
    images, dead = [], []
    for chunk in _chunks(numbers, size):
        asked = jnp.asarray(chunk, jnp.int32)
        ascended, silent = _ascended(ascent, steps, model.variables, asked, key)
        # An array for which there was no memory ends the process where NumPy reads it.
        images.append(np.asarray(jax.block_until_ready(ascended)))
        dead.append(np.asarray(silent))
    # The last chunk is as long as the others, so that nothing compiles twice.
    silent_ones = np.concatenate(dead)[: len(numbers)]
    return Patterns(
        np.concatenate(images)[: len(numbers)],
        tuple(numbers),
        tuple(n for n, silent in zip(numbers, silent_ones, strict=True) if silent),
    )


def _chunks(numbers: Sequence[int], size: int) -> Iterator[list[int]]:
    """Parts of one length that fit into memory; the last number fills up the last of them."""
    pixels = _PIXELS.get(jax.default_backend(), _PIXELS_ELSEWHERE)
    count = -(-len(numbers) // max(pixels // size**2, 1))
    length = -(-len(numbers) // count)
    for start in range(0, len(numbers), length):
        chunk = list(numbers[start : start + length])
        yield chunk + chunk[-1:] * (length - len(chunk))


def _ascended(
    ascent: Ascent, steps: int, variables: Variables, numbers: Array, key: Array
) -> tuple[Array, Array]:
    """Images [F, S, S, C] for numbers [F], and which of them are dead."""
    keys, state = _begin(ascent, numbers, key)
    state, dead = _step(ascent, variables, numbers, keys, jnp.int32(0), state)
    if jax.default_backend() == "cpu":
        # XLA:CPU runs the convolutions of a compiled loop on a single thread.
        for number in range(1, steps):
            state, _ = _step(ascent, variables, numbers, keys, jnp.int32(number), state)
    else:
        state = _many_steps(ascent, variables, numbers, keys, jnp.int32(steps), state)
    return _image(ascent, state), dead


@functools.partial(jax.jit, static_argnums=0)
def _begin(ascent: Ascent, numbers: Array, key: Array) -> tuple[Array, Any]:
    keys = jax.vmap(lambda number: rng.at(key, number))(numbers)
    return keys, RECIPES[ascent.recipe].begin(keys, ascent.size, ascent.channels)


@functools.partial(jax.jit, static_argnums=0)
def _step(
    ascent: Ascent, variables: Variables, numbers: Array, keys: Array, step: Array, state: Any
) -> tuple[Any, Array]:
    recipe = RECIPES[ascent.recipe]

    def objective(inputs: Array) -> Array:
        values = ascent.score(variables, inputs, numbers)
        return jnp.mean(recipe.excitement(values), axis=(1, 2, 3))

    return recipe.step(objective, ascent.preprocess, keys, step, state)


@functools.partial(jax.jit, static_argnums=0)
def _many_steps(
    ascent: Ascent, variables: Variables, numbers: Array, keys: Array, steps: Array, state: Any
) -> Any:
    """Steps 1 to `steps` - 1, as one program."""

    def body(step: Array, state: Any) -> Any:
        return _step(ascent, variables, numbers, keys, step, state)[0]

    return jax.lax.fori_loop(1, steps, body, state)


@functools.partial(jax.jit, static_argnums=0)
def _image(ascent: Ascent, state: Any) -> Array:
    return RECIPES[ascent.recipe].image(state)

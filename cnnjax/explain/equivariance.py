"""Equivariance and invariance, measured: what a moved image does to the maps of a net."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.ndimage import map_coordinates

from cnnjax.explain.activations import activations
from cnnjax.explain.inputs import check_images
from cnnjax.models import Model
from cnnjax.models.layers.receptive_fields import ReceptiveField, receptive_fields


@dataclass(frozen=True)
class Move:
    """A shear, a turn and a change of scale about the image's centre, then a shift.

    The moved image has at c + t + s R K v what the image has at c + v.

    Args:
        down, right: the shift t, in pixels of the input, of any sign.
        scale: s > 0; above 1 things grow.
        degrees: of the turn R, counter-clockwise as one looks at the image.
        shear: of K, in degrees between -90 and 90: upright lines lean by it, to the left above
            the centre and to the right below it.
    """

    down: float = 0.0
    right: float = 0.0
    scale: float = 1.0
    degrees: float = 0.0
    shear: float = 0.0

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"scale must be positive, got {self.scale!r}")
        if not -90 < self.shear < 90:
            raise ValueError(f"shear must lie between -90 and 90 degrees, got {self.shear!r}")

    def __call__(self, images: Array | np.ndarray) -> Array:
        """Move images.

        Args:
            images: [N, H, W, C], floating.

        Returns:
            The same shape; bilinear between pixels, exact for shifts by whole pixels; what comes in
            at the borders repeats them.

        >>> import numpy as np
        >>> Move(right=1)(np.arange(3.0).reshape(1, 1, 3, 1)).ravel().tolist()
        [0.0, 0.0, 1.0]
        """
        x = jnp.asarray(images)
        size = (x.shape[1], x.shape[2])
        return _resampled(x, self.sources(size, ReceptiveField(), size))

    def sources(
        self, size: tuple[int, int], field: ReceptiveField, image: tuple[int, int]
    ) -> np.ndarray:
        """From where in a map its moved pixels come.

        Args:
            size: (height, width) of the map.
            field: places its pixels in the image: each stands at the centre of its window.
            image: (height, width) of the input.

        Returns:
            [2, height, width], float64, rows and columns in the map.
        """
        first = [s + (e - 1) / 2 for s, e in zip(field.start, field.extent, strict=True)]
        grid = np.meshgrid(*map(np.arange, size), indexing="ij")
        places = [f + j * g for f, j, g in zip(first, field.jump, grid, strict=True)]
        back = self._back(np.stack(places), image)
        return np.stack([(b - f) / j for b, f, j in zip(back, first, field.jump, strict=True)])

    def _back(self, places: np.ndarray, image: tuple[int, int]) -> np.ndarray:
        """From where in the image what is seen at these places comes; [2, ...] pixels."""
        centre = [(n - 1) / 2 for n in image]
        y = (places[0] - centre[0] - self.down) / self.scale
        x = (places[1] - centre[1] - self.right) / self.scale
        cos, sin = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        y, x = cos * y + sin * x, cos * x - sin * y
        return np.stack([y + centre[0], x - math.tan(math.radians(self.shear)) * y + centre[1]])


@dataclass(frozen=True)
class Change:
    """How a layer's map changes when the image is moved; relative, 0 is no change.

    Args:
        equivariance: ||F(T x) - T F(x)|| / ||F(x)||: what remains when the map is moved along.
        invariance: ||F(T x) - F(x)|| / ||F(x)||: how much the map changes where it stands.
        pixels: of one map that are compared: those that see nothing from beyond the borders. The
            figures are NaN where there are none.
    """

    equivariance: float
    invariance: float
    pixels: int


def equivariance(
    model: Model, images: Array | np.ndarray, move: Move, layers: Sequence[str] | None = None
) -> dict[str, Change]:
    """How far the maps of a net move with the image, and how far they stay the same.

    Both norms run over all images, channels and those pixels that see only what is inside the
    image, before and after the move.

    Args:
        model: any.
        images: preprocessed inputs, [N, H, W, C] float32.
        move: what is done to the images.
        layers: names or patterns, as in `activations`; None takes all. Those whose receptive field
            the layer table does not know, or that have no rows and columns, are compared where they
            stand alone: their equivariance is NaN.

    Returns:
        {layer: Change}, in the order of `model.layer_names`.

    Raises:
        ValueError: for a name that is no layer, inputs of another shape, or a model of something
            else than images.

    >>> import cnnjax as cj, numpy as np
    >>> model = cj.create_model("mnist_convnet")
    >>> images = np.random.default_rng(0).random((1, 28, 28, 1), np.float32)
    >>> change = equivariance(model, images, Move(right=4), ["pool1"])["pool1"]
    >>> change.equivariance < 1e-6, change.invariance > 0.1
    (True, True)
    """
    check_images(model.spec)
    inputs = model.checked_inputs(images)
    fields = receptive_fields(model)
    before = activations(model, inputs, layers)
    after = activations(model, move(inputs), layers)
    image = (inputs.shape[1], inputs.shape[2])
    return {
        name: _change(before[name], after[name], fields.get(name), move, image) for name in before
    }


def _change(
    before: Array, after: Array, field: ReceptiveField | None, move: Move, image: tuple[int, int]
) -> Change:
    if before.ndim != 4 or field is None or field.all:
        pixels = math.prod(before.shape[1:-1])
        return Change(math.nan, _distance(after, before), pixels)
    size = (before.shape[1], before.shape[2])
    sources = move.sources(size, field, image)
    inside = _inside(size, field, move, image, sources)
    if not inside.any():
        return Change(math.nan, math.nan, 0)
    expected = np.asarray(_resampled(before, sources))[:, inside]
    # In NumPy: every number of pixels would be a program of its own.
    new, old = np.asarray(after)[:, inside], np.asarray(before)[:, inside]
    return Change(_distance(new, expected), _distance(new, old), int(inside.sum()))


def _inside(
    size: tuple[int, int],
    field: ReceptiveField,
    move: Move,
    image: tuple[int, int],
    sources: np.ndarray,
) -> np.ndarray:
    """bool [h, w]: pixels that see only the image's inside, and so do those they come from."""
    grid = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"))
    column = (2, 1, 1)
    low = np.reshape(field.start, column) + np.reshape(field.jump, column) * grid
    high = low + np.reshape(field.extent, column) - 1
    last = np.reshape(image, column) - 1
    sees = ((low >= 0) & (high <= last)).all(axis=0)
    for y in (low[0], high[0]):  # the corners of the window, where they were before the move
        for x in (low[1], high[1]):
            back = move._back(np.stack([y, x]).astype(np.float64), image)
            sees &= ((back >= 0) & (back <= last)).all(axis=0)
    whole = ((low >= 0) & (high <= last)).all(axis=0)
    for rounded in (np.floor(sources), np.ceil(sources)):
        place = rounded.astype(int)
        within = ((place >= 0) & (place < np.reshape(size, column))).all(axis=0)
        y, x = (np.clip(place[a], 0, size[a] - 1) for a in (0, 1))
        sees &= within & whole[y, x]
    return sees


@jax.jit
def _resampled(maps: Array, sources: Array | np.ndarray) -> Array:
    """[N, H, W, C] read at [2, H', W'] places, bilinear."""
    places = [s.astype(jnp.float32) for s in sources]

    def one(plane: Array) -> Array:
        return map_coordinates(plane, places, order=1, mode="nearest")

    return jax.vmap(jax.vmap(one, in_axes=-1, out_axes=-1))(maps)


def _distance(found: Array | np.ndarray, expected: Array | np.ndarray) -> float:
    """||found - expected|| / ||expected||."""
    there = np.asarray(expected, np.float64).ravel()
    norm = float(np.linalg.norm(there))
    difference = np.asarray(found, np.float64).ravel() - there
    return float(np.linalg.norm(difference)) / norm if norm else math.nan

"""Receptive fields as measured: the input pixels that one output pixel's gradient reaches."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen
from jax import Array

from cnnjax.core import trees
from cnnjax.explain.inputs import check_images, check_layer
from cnnjax.models import Model, taps
from cnnjax.models.graph import trace
from cnnjax.models.modules import Static, Variables
from cnnjax.nn import (
    Activation,
    BatchNormalization,
    DepthwiseConv2D,
    GlobalMaxPooling2D,
    LayerNormalization,
    MaxPooling2D,
    average_pool,
    conv_engine,
)


class Box(NamedTuple):
    """Part of an image, in pixels; bottom and right are excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.bottom - self.top, self.right - self.left


def receptive_field(
    model: Model, layer: str, pixel: Sequence[int] | None = None
) -> tuple[int, int]:
    """Height and width of the part of the input that one output pixel of a layer depends on.

    The size of `receptive_box`; `summary` has the same by arithmetic.

    >>> import cnnjax as cj
    >>> receptive_field(cj.create_model("mnist_convnet"), "conv2")
    (8, 8)
    """
    return receptive_box(model, layer, pixel).size


def receptive_box(model: Model, layer: str, pixel: Sequence[int] | None = None) -> Box:
    """Where in the input the pixels lie that one output pixel of a layer depends on.

    Measured as the extent of the nonzero gradient of the output pixel, summed over its channels,
    with respect to the input; in a net that is the same but for what could hide a pixel:
    all kernels are positive (1 / number of input channels), so that no two ways from a pixel to
    the output cancel; activations and batch normalisations are left out, so that no ReLU is shut;
    max pooling becomes average pooling over the same windows, so that no pixel loses. Functions
    of a module of one's own that are no layers of cnnjax.nn stay as they are and can hide pixels
    (a `jnp.maximum` of two branches): the gradient is taken at two random positive inputs, and
    what any of them shows counts.

    Args:
        model: any; its weights do not matter.
        layer: name of a layer.
        pixel: (row, column) in the layer's map; None takes the central one. A layer without
            rows and columns is measured as a whole.

    Returns:
        The box, cut off at the image's borders: to see the whole field give the model a larger
        input_shape.

    Raises:
        ValueError: if there is no such layer (offers the nearest), or no such pixel; for a model of
            something else than images.
    """
    check_images(model.spec)
    check_layer(model, layer)
    calls = {call.name: call for call in trace(model)}
    place = _place(layer, calls[layer].output_shape, pixel)
    depthwise = {name for name, c in calls.items() if isinstance(c.module, DepthwiseConv2D)}
    reached = np.asarray(
        _reached(
            model.static,
            (model.spec.name, layer),
            place,
            _positive(model.variables, depthwise),
            jax.random.uniform(
                jax.random.key(0), (_SAMPLES, *model.spec.sample_shape), minval=0.5, maxval=1.5
            ),
        )
    )
    rows, columns = (np.flatnonzero(reached.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        raise ValueError(f"layer={layer!r} does not depend on the input")
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


# Random inputs; for nets of cnnjax.nn's layers the net is linear, and one would do.
_SAMPLES = 2


def _place(
    layer: str, shape: tuple[int, ...], pixel: Sequence[int] | None
) -> tuple[int, int] | None:
    if len(shape) != 4:
        return None
    if pixel is None:
        return shape[1] // 2, shape[2] // 2
    row, column = (int(n) for n in pixel)
    if not (0 <= row < shape[1] and 0 <= column < shape[2]):
        raise ValueError(
            f"pixel={tuple(pixel)} is not in the map of {layer!r}, which has {shape[1]}x{shape[2]}"
        )
    return row, column


def _positive(variables: Variables, depthwise: set[str]) -> Variables:
    """Kernels of 1 / input channels, no biases, all else 1.

    With these a pixel at the corner of a field, to which one way leads, has a gradient near 1 and
    one at its centre the number of the ways: nothing becomes zero by rounding in a deep net.
    """

    def value(path: str, leaf: Any) -> Array:
        layer, _, weight = path.rpartition("/")
        summed = (weight == "kernel" and layer not in depthwise) or weight == "pointwise_kernel"
        fill = 1.0 / leaf.shape[-2] if summed and leaf.ndim > 1 else float(weight != "bias")
        return jnp.full(leaf.shape, fill, leaf.dtype)

    return {**variables, "params": trees.map_flat(value, variables.get("params", {}))}


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _reached(
    static: Static,
    names: tuple[str, str],
    place: tuple[int, int] | None,
    variables: Variables,
    inputs: Array,
) -> Array:
    """bool [H, W]: where the gradient of the layer's pixel is not zero."""
    root, layer = names

    def output(x: Array) -> Array:
        with conv_engine("lax"):
            layers = taps.run(static, variables, x, root=root, read=(layer,), edit=_linear).layers
        maps = layers[layer][-1]
        return (maps if place is None else maps[:, place[0], place[1]]).sum()

    return (jax.grad(output)(inputs) != 0).any(axis=(0, -1))


def _linear(visit: taps.Visit) -> Any:
    """A layer's output without anything that could hide a pixel."""
    match module := visit.module:
        case (
            Activation()
            | BatchNormalization()
            | LayerNormalization()
            | linen.BatchNorm()
            | linen.LayerNorm()
        ):
            return visit.args[0]
        case MaxPooling2D():
            return average_pool(visit.args[0], module.pool_size, module.strides, module.padding)
        case GlobalMaxPooling2D():
            return visit.args[0].mean(axis=(1, 2))
    return visit.proceed()

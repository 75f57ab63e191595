"""Which layers have maps [N, height, width, channels]: four axes alone do not make a map."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
from flax import linen
from flax.errors import FlaxError

from cnnjax.core import trees
from cnnjax.explain.targets import check_layer
from cnnjax.models import Model, ModelSpec
from cnnjax.models.modules import Static, forward

_MOST_STRETCHED = 2  # how far a map's proportions may be from the image's where nothing else tells
_IMAGES = 2  # in a batch that shows whether the first axis is that of the images

Shape = tuple[int, ...]


def check_map(model: Model, layer: str) -> None:
    """Refuse a layer whose output is no map; offers the nearest layers that have maps.

    Args:
        model: of images.
        layer: a name.

    Raises:
        ValueError: for a name that is no layer; for an output without height and width, or with
            these on other axes than the second and the third.
    """
    known = layers_with_maps(model)
    check_layer(model, layer, list(known))
    if layer in known:
        return
    shape = _shapes(model.static, model.spec, model.spec.input_shape).get(layer, ())
    count = "N" if shape[0] == _IMAGES else f"{shape[0]} for N = {_IMAGES}"
    output = ", ".join([count, *map(str, shape[1:])])
    example = f", e.g. {list(known)[-1]!r}" if known else ", of which there is none"
    fault = "is no map [N, height, width, channels]"
    if len(shape) != 4 or shape[1] * shape[2] == 1:
        fault = "has no spatial extent"
    raise ValueError(
        f"layer={layer!r} {fault}, its output is [{output}]: take one of maps{example}"
    )


def layers_with_maps(model: Model) -> dict[str, Shape]:
    """{layer: (1, h, w, C)}, in the order of `model.layer_names`; nothing is computed.

    What the axes of an output mean is told by how its shape follows that of the input: of a map the
    second axis grows with the input's height, the third with its width. Where the model takes no
    other size, or the output has always the same, a map has about the input's proportions.

    >>> import cnnjax as cj
    >>> list(layers_with_maps(cj.create_model("mnist_convnet")))
    ['conv1', 'pool1', 'conv2', 'pool2', 'conv3']
    """
    static, spec = model.static, model.spec
    height, width, channels = spec.input_shape
    own = _shapes(static, spec, spec.input_shape)
    taller = _shapes(static, spec, (2 * height, width, channels))
    wider = _shapes(static, spec, (height, 2 * width, channels))
    return {
        name: (1, *own[name][1:])
        for name in model.layer_names
        if own.get(name, ())[:1] == (_IMAGES,)  # windows of images lie along it too
        and is_map(own[name], taller.get(name), wider.get(name), height / width)
    }


def is_map(own: Shape, taller: Shape | None, wider: Shape | None, proportions: float) -> bool:
    """Whether an output has height and width on its second and third axis.

    Args:
        own: its shape for inputs of the model's own size.
        taller, wider: its shape for inputs of twice the height, and of twice the width; None where
            the model takes no such inputs.
        proportions: height of the inputs by their width.
    """
    if len(own) != 4 or own[1] * own[2] <= 1:
        return False
    rows, columns = _changed(own, taller), _changed(own, wider)
    if rows or columns:
        return rows <= {1} and columns <= {2}
    stretched = abs(math.log(own[1] / own[2] / proportions))
    if_second = abs(math.log(own[2] / own[3] / proportions))  # with the channels on that axis
    return stretched <= min(math.log(_MOST_STRETCHED), if_second) + 1e-6


def _changed(own: Shape, other: Shape | None) -> set[int]:
    """The axes of other lengths; where the ranks differ, all of them."""
    if other is None:
        return set()
    if len(other) != len(own):
        return set(range(len(own)))
    return {axis for axis in range(1, len(own)) if own[axis] != other[axis]}


@functools.lru_cache(maxsize=64)
def _shapes(static: Static, spec: ModelSpec, input_shape: Shape) -> dict[str, Shape]:
    """Output shapes of the layers for images of a size, as far as the model takes that size."""
    shapes: dict[str, Shape] = {}

    def interceptor(next_function: Any, args: Any, kwargs: Any, context: Any) -> Any:
        output = next_function(*args, **kwargs)
        if context.method_name == "__call__" and hasattr(output, "shape"):
            shapes[trees.join(context.module.path) or spec.name] = tuple(output.shape)
        return output

    def run(variables: Any, inputs: Any) -> Any:
        with linen.intercept_methods(interceptor):
            return forward(static, variables, inputs)

    variables = Model.abstract(static.module, spec).variables
    sample = jax.ShapeDtypeStruct((_IMAGES, *input_shape), spec.input_dtype)
    try:
        jax.eval_shape(run, variables, sample)
    except (TypeError, ValueError, AssertionError, IndexError, FlaxError):
        if input_shape == spec.input_shape:
            raise
        # A dense layer takes one size alone; the shapes of all before it are there.
    return shapes

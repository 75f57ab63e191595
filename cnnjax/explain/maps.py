"""Which layers have maps [N, height, width, channels]: four axes alone do not make a map."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from flax.errors import FlaxError

from cnnjax.explain.inputs import check_layer, image_size
from cnnjax.explain.tokens import Rearrange, ToMap, rearrangement
from cnnjax.models import Model, ModelSpec, taps
from cnnjax.models.modules import Static

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
    path, _ = taps.place(layer)
    if path in model.layer_names and _is_map_layer(model, layer, _by_size(model, layer)):
        return
    known = layers_with_maps(model)
    check_layer(model, layer, list(known))
    shape = _of(_by_size(model)[0], layer) or ()
    count = "N" if shape[0] == _IMAGES else f"{shape[0]} for N = {_IMAGES}"
    output = ", ".join([count, *map(str, shape[1:])])
    example = f", e.g. {list(known)[-1]!r}" if known else ", of which there is none"
    fault = "is no map [N, height, width, channels]"
    if len(shape) != 4 or shape[1] * shape[2] == 1:
        fault = "has no spatial extent"
    raise ValueError(
        f"layer={layer!r} {fault}, its output is [{output}]: take one of maps{example}"
    )


def maps_of(model: Model, layer: str, to_map: ToMap, inputs: Any) -> Rearrange | None:
    """What makes maps of a layer's output; None where it is one already.

    Args:
        model: of images.
        layer: a name.
        inputs: that are explained, of which the shapes count.
        to_map: as in `rearrangement`.

    Raises:
        ValueError: as `check_map` and `rearrangement` do.
    """
    path, _ = taps.place(layer)
    if path in model.layer_names:
        own, *others = (_of(known, layer) for known in _by_size(model, layer, inputs))
        tokens = own is not None and len(own) == 3 and own[0] == _IMAGES
        if own is not None and (to_map is not None or (tokens and _along_second(own, others))):
            return rearrangement(to_map, layer, (1, *own[1:]), image_size(inputs))
    check_map(model, layer)
    return None


def _along_second(own: Shape, others: list[Shape | None]) -> bool:
    """Whether an output's second axis is the one that grows with the image, if any does."""
    return all(_changed(own, other) <= {1} for other in others)


def layers_with_maps(model: Model) -> dict[str, Shape]:
    """{layer: (1, h, w, C)}, in the order of `model.layer_names`; nothing is computed.

    What the axes of an output mean is told by how its shape follows that of the input: of a map the
    second axis grows with the input's height, the third with its width. Where the model takes no
    other size, or the output has always the same, a map has about the input's proportions.

    >>> import cnnjax as cj
    >>> list(layers_with_maps(cj.create_model("mnist_convnet")))
    ['conv1', 'pool1', 'conv2', 'pool2', 'conv3']
    """
    shapes = _by_size(model)
    return {
        name: (1, *shapes[0][name][1:])
        for name in model.layer_names
        if _is_map_layer(model, name, shapes)
    }


def _by_size(
    model: Model, stop_at: str | None = None, inputs: Any = None
) -> list[dict[str, Shape]]:
    """Shapes for images of the model's own size, of twice its height, and of twice its width.

    Args:
        model: of images.
        stop_at: the layer up to which they are wanted; None for all.
        inputs: whose size to take; None takes the model's own.
    """
    own = model.spec.sample(_IMAGES) if inputs is None else inputs
    leaves, form = jax.tree.flatten(own)
    static, spec, times = model.static, model.spec, ((1, 1), (2, 1), (1, 2))
    return [_shapes(static, spec, form, tuple(_sizes(leaves, *n)), n, stop_at) for n in times]


def _sizes(leaves: Sequence[Any], rows: int, columns: int) -> Iterator[jax.ShapeDtypeStruct]:
    """Two examples of such inputs, with images of so many times the height and width."""
    for leaf in leaves:
        _, *shape = leaf.shape
        if len(shape) == 3:
            shape = [rows * shape[0], columns * shape[1], shape[2]]
        yield jax.ShapeDtypeStruct((_IMAGES, *shape), leaf.dtype)


def _is_map_layer(model: Model, layer: str, shapes: list[dict[str, Shape]]) -> bool:
    own, taller, wider = (_of(known, layer) for known in shapes)
    if own is None or own[:1] != (_IMAGES,):  # windows of images lie along that axis too
        return False
    height, width = image_size(model.spec.sample())
    return is_map(own, taller, wider, height / width)


def _of(shapes: dict[str, Shape], layer: str) -> Shape | None:
    """The shape of a layer's output; of a round of a loop that of all its rounds."""
    return shapes.get(layer, shapes.get(taps.place(layer)[0]))


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
def _shapes(
    static: Static,
    spec: ModelSpec,
    form: Any,
    leaves: tuple[jax.ShapeDtypeStruct, ...],
    times: tuple[int, int],
    stop_at: str | None,
) -> dict[str, Shape]:
    """Output shapes of the layers for inputs, as far as the model takes their size.

    Args:
        static, spec: of the model.
        form: structure of the inputs.
        leaves: of the inputs.
        times: by which the images are larger than what the model does take.
        stop_at: as in `_by_size`.
    """
    shapes: dict[str, Shape] = {}
    calls: Counter[str] = Counter()

    def noted(visit: taps.Visit) -> Any:
        output = visit.proceed()
        if hasattr(output, "shape"):
            calls[visit.path] += 1
            shapes[f"{visit.path}@{calls[visit.path] - 1}"] = tuple(output.shape)
            shapes[visit.path] = tuple(output.shape)
        return output

    def run(variables: Any, inputs: Any) -> Any:
        return taps.run(
            static, variables, inputs, root=spec.name, edit=noted, stop_at=stop_at
        ).outputs

    variables = Model.abstract(static.module, spec).variables
    try:
        jax.eval_shape(run, variables, jax.tree.unflatten(form, leaves))
    except (TypeError, ValueError, AssertionError, IndexError, FlaxError):
        if times == (1, 1):
            raise
        # A dense layer takes one size alone; the shapes of all before it are there.
    return shapes

"""Outputs of named layers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.core import trees
from cnnjax.explain.inputs import checked_inputs
from cnnjax.models import Model, taps
from cnnjax.models.modules import Static, Variables

_BATCH = 32  # images of `sparsity` at once


def activations(
    model: Model, images: Array | np.ndarray, layers: Sequence[str] | None = None
) -> dict[str, Array]:
    """Outputs of layers, e.g. as features for another classifier.

    Args:
        model: any; nothing in it is changed. What follows the last of the layers is not computed.
        images: preprocessed inputs, [N, H, W, C] float32, as `model(images)` takes them.
        layers: names or shell-style patterns ("block[1-3]_conv*") of `model.layer_names`; None
            takes all. Of a layer that is called several times, as in `nn.scan`, one call by number:
            "blocks/conv@0" is the first.

    Returns:
        {layer: [N, ...]}, in the order of `model.layer_names`; of a layer that is called several
        times what the last call returned, unless one is named.

    Raises:
        ValueError: for a name that is no layer (offers the nearest), inputs of another shape, or
            pixels in [0, 255] where the model wants them preprocessed (not checked inside a
            compiled function).

    >>> import cnnjax as cj, numpy as np
    >>> model = cj.create_model("mnist_convnet")
    >>> maps = cj.explain.activations(model, np.zeros((2, 28, 28, 1), np.float32), ["pool*"])
    >>> {name: values.shape for name, values in maps.items()}
    {'pool1': (2, 13, 13, 32), 'pool2': (2, 5, 5, 64)}
    """
    inputs = checked_inputs(model, images)
    wanted = _selected(model, layers)
    outputs: dict[str, Array] = layer_outputs(
        model.static, model.spec.name, wanted, model.variables, inputs
    )
    return {name: outputs[name] for name in wanted}  # jit sorts a dictionary's keys


def activation_shapes(
    model: Model, layers: Sequence[str] | None = None
) -> dict[str, tuple[int, ...]]:
    """Shapes of what `activations` returns for a single image; nothing is computed.

    Args:
        model, layers: as in `activations`.

    Returns:
        {layer: (1, ...)}, in the order of `model.layer_names`.

    >>> import cnnjax as cj
    >>> cj.explain.activation_shapes(cj.create_model("mnist_convnet"), ["conv*"])["conv3"]
    (1, 3, 3, 64)
    """
    wanted = _selected(model, layers)
    sample = model.spec.sample()
    forward = functools.partial(layer_outputs, model.static, model.spec.name, wanted)
    outputs = jax.eval_shape(forward, model.variables, sample)
    return {name: tuple(outputs[name].shape) for name in wanted}


def normalise_maps(maps: Array | np.ndarray) -> np.ndarray:
    """Feature maps as images, each normalised for itself: `64 (m - mean) / std + 128`.

    Chollet 2017, Deep learning with Python, sec. 5.4.1. What a map says is in its contrasts; how
    strong it is compared with others is lost.

    Args:
        maps: [..., H, W, F] of a layer.

    Returns:
        uint8 of the same shape, clipped to 0..255 and cut to whole numbers. A map that is zero
        everywhere is 0, another one without contrast 128.

    Raises:
        ValueError: without two spatial axes.

    >>> normalise_maps(np.array([[[-1.0, 0.0, 2.0], [1.0, 0.0, 2.0]]])).tolist()
    [[[64, 0, 128], [192, 0, 128]]]
    """
    values = np.asarray(maps, np.float32)
    if values.ndim < 3:
        raise ValueError(f"maps must be [..., H, W, F], got shape {list(values.shape)}")
    lowest, highest = (f(values, axis=(-3, -2), keepdims=True) for f in (np.min, np.max))
    mean, deviation = (f(values, axis=(-3, -2), keepdims=True) for f in (np.mean, np.std))
    # Of a constant map rounding alone would be blown up.
    contrast = highest > lowest
    scaled = np.where(contrast, (values - mean) / np.where(contrast, deviation, 1), 0) * 64 + 128
    dead = (lowest == 0) & (highest == 0)
    return np.where(dead, 0, np.clip(scaled, 0, 255)).astype(np.uint8)


@dataclass(frozen=True)
class Sparsity:
    """How silent a layer is; all shares lie in [0, 1].

    Args:
        zeros: share of outputs that are zero.
        dead_maps: share of maps that are zero everywhere for an image, averaged over the images.
        dead_for_all: share of maps that are zero everywhere for every one of the images.
    """

    zeros: float
    dead_maps: float
    dead_for_all: float


def sparsity(
    model: Model, images: Array | np.ndarray, layers: Sequence[str] | None = None
) -> dict[str, Sparsity]:
    """Share of zeros and of dead maps, layer by layer.

    Deeper layers stand for rarer things, so that the share of maps that have nothing to say about
    an image grows with depth.

    Args:
        model, images, layers: as `activations` takes them; at least one image. Of an output
            without spatial extent every unit counts as a map.

    Returns:
        {layer: Sparsity}, in the order of `model.layer_names`.

    Raises:
        ValueError: as `activations` does, or without images.

    >>> import cnnjax as cj
    >>> model = cj.create_model("mnist_convnet")
    >>> cj.explain.sparsity(model, np.zeros((2, 28, 28, 1), np.float32), ["conv1"])
    {'conv1': Sparsity(zeros=1.0, dead_maps=1.0, dead_for_all=1.0)}
    """
    if not len(images):
        raise ValueError("images must hold at least one image")
    wanted, static = _selected(model, layers), model.static
    parts = []
    for start in range(0, len(images), _BATCH):
        inputs = checked_inputs(model, images[start : start + _BATCH])
        found = _silence(static, model.spec.name, wanted, model.variables, inputs)
        parts.append(jax.tree.map(np.asarray, found))
    table = {}
    for name in wanted:
        zeros, dead = (np.concatenate([part[name][i] for part in parts]) for i in range(2))
        table[name] = Sparsity(float(zeros.mean()), float(dead.mean()), float(dead.all(0).mean()))
    return table


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _silence(
    static: Static, root: str, wanted: tuple[str, ...], variables: Variables, inputs: Array
) -> dict[str, tuple[Array, Array]]:
    """{layer: (share of zeros [N, F], whether a map is zero everywhere [N, F])}."""
    outputs = layer_outputs(static, root, wanted, variables, inputs)
    silence = {}
    for name, values in outputs.items():
        zero = values == 0
        space = tuple(range(1, zero.ndim - 1))
        silence[name] = (jnp.mean(zero, axis=space, dtype=jnp.float32), jnp.all(zero, axis=space))
    return silence


def _selected(model: Model, layers: Sequence[str] | None) -> tuple[str, ...]:
    """Names of layers in the model's order, of names or patterns; None takes all."""
    known = model.layer_names
    if layers is None:
        return known
    patterns = [layers] if isinstance(layers, str) else layers
    paths = [path for path, call in map(taps.place, patterns) if call is not None]
    others = [pattern for pattern in patterns if taps.place(pattern)[1] is None]
    trees.select(known, paths, "layers", what="layer")
    chosen = trees.select(known, others, "layers", what="layer")
    calls = [pattern for pattern in patterns if pattern not in others]
    named = [[call for call in calls if taps.place(call)[0] == name] for name in known]
    return tuple(
        each
        for name, calls_of in zip(known, named, strict=True)
        for each in [*([name] if name in chosen else []), *calls_of]
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def layer_outputs(
    static: Static, root: str, wanted: tuple[str, ...], variables: Variables, inputs: Array
) -> dict[str, Array]:
    """`activations` for a program of one's own: nothing is checked, and it may be traced.

    Args:
        static: the model's module.
        root: what the module itself is called, `model.spec.name`.
        wanted: names of layers.
        variables: of the model.
        inputs: preprocessed, [N, ...].

    Returns:
        {layer: [N, ...]}; what no layer wanted needs is not computed.
    """
    places = {name: taps.place(name) for name in wanted}
    paths = [path for path, _ in places.values()]
    layers = taps.run(static, variables, inputs, root=root, read=paths).layers
    return {
        name: layers[path][-1 if call is None else taps.which_call(name, len(layers[path]))]
        for name, (path, call) in places.items()
    }

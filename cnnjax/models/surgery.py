"""A classifier turned into a fully convolutional net: class maps of larger images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
from flax import linen
from jax import Array

from cnnjax.core import trees
from cnnjax.models import taps
from cnnjax.models.adapters import without_adapters
from cnnjax.models.graph import INPUT, Call, trace
from cnnjax.models.layers.convolutional import FullyConvolutional, Part
from cnnjax.models.model import Model
from cnnjax.models.modules import Variables
from cnnjax.nn import (
    Activation,
    AdaptiveAveragePooling2D,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    LayerNormalization,
    MaxPooling2D,
    Reshape,
)
from cnnjax.nn.conv import as_pair

_POOLINGS = (GlobalAveragePooling2D, GlobalMaxPooling2D)
_DENSE = (Dense, linen.Dense)


def convolutionalize(
    model: Model, input_shape: Sequence[int] | None = None, *, global_pooling: str = "drop"
) -> Model:
    """Turn the head of a classifier into the equivalent convolutions.

    A dense layer on the flattened map [h, w, C] is a convolution of the kernel size h x w without
    padding, `K[a, b, c, k] = W[(a w + b) C + c, k]`; dense layers after it are 1x1 convolutions. On
    an image of the size of training the result is the classifier's output, on a larger one a map
    of it, as if the classifier were moved over the image in steps of the product of its strides,
    at the cost of one pass (Sermanet et al. 2014, OverFeat; Long et al. 2015, Fully convolutional
    networks). Where convolutions pad ("same"), pixels near the border of a window see its
    surroundings instead of zeros, so that there the map is not exactly the classifier's output.

    Args:
        model: whose maps are flattened or pooled globally, and then go through dense layers (also
            dropout and activations), one after the other; its adapters are merged.
        input_shape: (H, W, C) of the images for the result, not below the model's own; None takes
            the model's. The result has the same variables for any size: for images of several
            sizes convert once for each.
        global_pooling: of a model that pools globally: "drop" leaves the pooling out, so that the
            mean of the class map over space is the logits of an average-pooling classifier (Zhou et
            al. 2016, class activation mapping); this needs a head that is linear. "window" pools
            over windows of the size of training's last map, stride 1, so that the map is the
            classifier moved over the image, as with flatten.

    Returns:
        A Model whose call returns logits [N, H', W', num_classes]: [N, 1, 1, num_classes] at the
        size of training, unless a global pooling is dropped; probabilities are
        `jax.nn.softmax(maps(maps.spec.preprocess(photos)))`. Its layers keep their names;
        variables before the head are shared with `model`.

    Raises:
        ValueError: if the model has no such head (says which layer is in the way), or the images
            are smaller than the model's.

    >>> import cnnjax as cj, numpy as np
    >>> model = cj.create_model("mnist_convnet")
    >>> maps = convolutionalize(model, (40, 60, 1))
    >>> maps(np.zeros((2, 40, 60, 1), np.float32)).shape
    (2, 4, 9, 10)
    """
    if global_pooling not in ("drop", "window"):
        raise ValueError(f"global_pooling must be 'drop' or 'window', got {global_pooling!r}")
    if isinstance(model.module, FullyConvolutional):
        raise ValueError(f"{model.spec.name} is fully convolutional already: convert its original")
    model = without_adapters(model)
    shape = _checked_shape(model, input_shape)
    cut, *following = _head_calls(model)
    own = cut.input_shapes[0]
    window = (own[1], own[2])  # which the next dense layer covers
    parts: list[Part] = []
    kernels: dict[str, tuple[int, int]] = {}
    if isinstance(cut.module, _POOLINGS):
        if global_pooling == "window":
            parts.append(_window_pooling(cut, window))
        else:
            _check_linear(model, cut, following)
        window = (1, 1)
    for call in following:
        part = _converted(model, call, window)
        if part is not None:
            parts.append(part)
        if isinstance(call.module, _DENSE):
            kernels[call.name], window = window, (1, 1)
    spec = dataclasses.replace(
        model.spec,
        name=f"{model.spec.name}_convolutional",
        input_shape=shape,
        arguments=None,  # no builder makes it
        train_arguments=(),
    )
    net, switches = model.module.clone(parent=None), model.spec.train_arguments
    module = FullyConvolutional(net, cut.name, tuple(parts), switches)
    return Model(module, _with_kernels(model.variables, kernels), spec)


def _checked_shape(model: Model, input_shape: Sequence[int] | None) -> tuple[int, ...]:
    own = model.spec.sample_shape
    if len(own) != 3:
        raise ValueError(f"{model.spec.name} takes no images [N, H, W, C]: inputs {list(own)}")
    if input_shape is None:
        return own
    shape = tuple(int(n) for n in input_shape)
    if len(shape) != 3 or shape[2] != own[2]:
        raise ValueError(f"input_shape must be (height, width, {own[2]}), got {input_shape!r}")
    if shape[0] < own[0] or shape[1] < own[1]:
        raise ValueError(
            f"input_shape={shape} is smaller than the {own[0]}x{own[1]} of {model.spec.name}: its "
            "head would not fit into the map"
        )
    return shape


def _head_calls(model: Model) -> list[Call]:
    """The layer that ends the maps and all after it, each fed by the one before it alone.

    They are found from the output backwards: up to the first flatten or global pooling of a map,
    and on from there only as long as the maps are of one pixel.
    """
    calls = trace(model)
    adaptive = [call.name for call in calls if isinstance(call.module, AdaptiveAveragePooling2D)]
    if adaptive:
        _refuse(model, f"its layer {adaptive[0]!r} makes a map of one size of images of every size")
    chain: list[Call] = []
    found: list[Call] = []
    number: int | None = _last(model, calls)
    while number is not None and number != INPUT:
        call = calls[number]
        chain.insert(0, call)
        given = call.input_shapes[0]
        if isinstance(call.module, (Flatten, *_POOLINGS)) and len(given) == 4:
            found = list(chain)
        if len(given) == 4 and given[1:3] != (1, 1):
            break
        number = call.sources[0] if len(call.sources) == 1 else None
    if not found and isinstance(chain[0].module, (Flatten, Reshape, Dropout, *_DENSE)):
        _refuse(model, f"the input of its layer {chain[0].name!r} is not the output of one layer")
    if not found:
        _refuse(
            model,
            "from its output backwards there is no flatten or global pooling layer of cnnjax.nn "
            f"before {chain[0].name!r} ({chain[0].kind})",
        )
    return found


def _last(model: Model, calls: Sequence[Call]) -> int:
    """Number of the call whose output is the model's."""
    names: list[str] = []
    outputs: dict[str, Any] = {}

    def noted(visit: taps.Visit) -> Any:
        outputs[visit.path] = output = visit.proceed()
        return output

    def note(variables: Variables, inputs: Array) -> Any:
        result = taps.run(model.static, variables, inputs, edit=noted).outputs
        names.extend(name for name, output in outputs.items() if name and output is result)
        return result

    jax.eval_shape(note, model.variables, model.spec.sample())
    ends = [i for i, call in enumerate(calls) if call.leaf and call.name in names]
    if not ends:
        _refuse(model, "its output is made by an operation that is no named layer")
    return ends[-1]


def _converted(model: Model, call: Call, window: tuple[int, int]) -> Part | None:
    """A layer of the head for maps; None for one that only changes the shape."""
    module, single = call.module, window == (1, 1)
    if "/" in call.name:
        _refuse(model, f"its layer {call.name!r} lies inside another module")
    match module:
        case Dense():
            fields = _fields(module)
            units = fields.pop("units")
            return _part(Conv2D, call, filters=units, kernel_size=window, **fields)
        case linen.Dense():
            return _part(
                Conv2D, call, filters=module.features, kernel_size=window, use_bias=module.use_bias
            )
        case Dropout() | linen.Dropout() | Activation():
            return _part(type(module), call, **_fields(module))
        case BatchNormalization() | LayerNormalization() if single:
            return _part(type(module), call, **_fields(module))
        case Conv2D() if single and as_pair(module.kernel_size, "kernel_size") == (1, 1):
            return _part(Conv2D, call, **_fields(module))
        case Flatten() if single:
            return None
        case Reshape() if single and len(module.target_shape) == 1:
            return None
    _refuse(model, f"there is no convolution for its layer {call.name!r} ({call.kind}) in the head")


def _window_pooling(cut: Call, window: tuple[int, int]) -> Part:
    """The pooling of windows of training's size in the place of a global one."""
    average = isinstance(cut.module, GlobalAveragePooling2D)
    kind = AveragePooling2D if average else MaxPooling2D
    # The name of the layer at the cut is taken: the net makes that layer, though it calls it not.
    name = f"{cut.name}_window"
    return Part(kind, (("pool_size", window), ("strides", 1), ("name", name)))


def _check_linear(model: Model, cut: Call, following: Sequence[Call]) -> None:
    """Whether the mean of class maps is what the head makes of the mean of maps."""
    curved = [call.name for call in following if not _is_linear(call.module)]
    if isinstance(cut.module, GlobalMaxPooling2D):
        curved = [cut.name]
    if curved:
        _refuse(
            model,
            f"its global pooling {cut.name!r} cannot be dropped, since {curved[0]!r} is not "
            "linear: use global_pooling='window'",
        )


def _is_linear(module: Any) -> bool:
    if isinstance(module, Activation):
        return module.function is jax.nn.identity
    return getattr(module, "activation", None) in (None, jax.nn.identity)


def _fields(module: Any) -> dict[str, Any]:
    """The arguments that a module was made with."""
    names = [f.name for f in dataclasses.fields(module) if f.name not in ("parent", "name")]
    return {name: getattr(module, name) for name in names}


def _part(kind: type[linen.Module], call: Call, **arguments: Any) -> Part:
    return Part(kind, tuple({**arguments, "name": call.name}.items()))


def _with_kernels(variables: Variables, windows: dict[str, tuple[int, int]]) -> Variables:
    """The dense layers' kernels [h w C, K] as kernels of convolutions [h, w, C, K]."""

    def reshaped(path: str, leaf: Any) -> Any:
        layer, _, weight = path.rpartition("/")
        if weight != "kernel" or layer not in windows:
            return leaf
        inputs, outputs = leaf.shape
        height, width = windows[layer]
        return jnp.reshape(leaf, (height, width, inputs // (height * width), outputs))

    return {**variables, "params": trees.map_flat(reshaped, variables["params"])}


def _refuse(model: Model, reason: str) -> NoReturn:
    raise ValueError(f"{model.spec.name} cannot be made fully convolutional: {reason}")

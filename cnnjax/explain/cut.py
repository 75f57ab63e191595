"""A model cut off above one of its layers: what follows is not even traced."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax.errors import FlaxError
from jax import Array

from cnnjax import nn
from cnnjax.explain.inputs import check_images, check_layer
from cnnjax.explain.maps import check_map
from cnnjax.models import Model, taps
from cnnjax.models.modules import Static, Variables
from cnnjax.nn.conv import as_pair, resolve_padding
from cnnjax.nn.im2col import shifted_slices


@dataclass(frozen=True)
class Cut:
    """The part of a model below a layer, as a function; hashable, a static argument of jit.

    The forward pass is left as soon as the layer has returned. So the inputs may have any size that
    the layers below take, also where a dense layer above it knows but one.

    Args:
        static: the model's module.
        root: what the module itself is called, `model.spec.name`.
        layer: where to cut; of several calls the first one counts, unless one is named.
        before_activation: the value that the layer's activation was applied to, where the last
            that happens in the layer is one of our `Activation`s, or the layer is one itself.
    """

    static: Static
    root: str
    layer: str
    before_activation: bool = False

    def __call__(self, variables: Variables, inputs: Array, filters: Array | None = None) -> Array:
        """Output of the layer; may be traced.

        Args:
            variables: of the model.
            inputs: preprocessed, [N, H, W, C].
            filters: of each input another filter: int32 [N]; None takes all.

        Returns:
            [N, ...], with filters [N, H', W', 1].
        """
        # Output of an activation, known by identity, to its input.
        activated: list[tuple[Array, Array]] = []
        path, call = taps.place(self.layer)

        def reduced(visit: taps.Visit) -> Any:
            output = visit.proceed()
            if isinstance(visit.module, nn.Activation):
                activated.append((output, visit.args[0]))
            if visit.path != path:
                return output
            # In a loop the output goes on as it is; else nothing needs it, and it is not computed.
            layer = visit.module
            if filters is not None and type(layer) is nn.Conv2D and layer.groups == 1:
                single = _single(layer, visit.args[0], filters, self.before_activation)
                return taps.Kept(output, single)
            if self.before_activation:
                before = (before for after, before in activated if after is output)
                return taps.Kept(output, next(before, output))
            return output

        run = functools.partial(taps.run, self.static, variables, inputs, root=self.root)
        calls = run(edit=reduced, stop_at=self.layer).layers[path]
        if call is not None:
            taps.which_call(self.layer, len(calls))
        output = calls[call or 0]
        if filters is not None and output.shape[-1] > 1:
            output = jnp.take_along_axis(output, filters.reshape(-1, 1, 1, 1), axis=-1)
        return output


def _single(layer: nn.Conv2D, inputs: Array, filters: Array, before_activation: bool) -> Array:
    """Of each input [N, H, W, C] one filter of a convolution, without computing the others.

    `y[n] = sum_{a, b} shifted_{a, b}(x[n] . k[a, b, :, f_n]) + bias[f_n]`: a product with as many
    columns as the kernel has taps, whose maps are then shifted and summed up.
    """
    kernel: Array = layer.get_variable("params", "kernel").astype(inputs.dtype)
    window = kernel.shape[:2]
    strides = as_pair(layer.strides, "strides")
    dilation = as_pair(layer.dilation_rate, "dilation_rate")
    pads = resolve_padding(layer.padding, inputs.shape[1:3], window, strides, dilation)
    taps = kernel.reshape(-1, *kernel.shape[2:])[:, :, filters]
    products = jnp.einsum("nhwc,tcn->nhwt", inputs, taps)
    slices = shifted_slices(products, window, strides, pads, dilation)
    output = functools.reduce(jnp.add, [s[..., t : t + 1] for t, s in enumerate(slices)])
    if layer.use_bias:
        output = output + layer.get_variable("params", "bias")[filters].reshape(-1, 1, 1, 1)
    if before_activation or layer.activation is None:
        return output
    return layer.activation(output)


def cut_at(model: Model, layer: str, before_activation: bool = False) -> Cut:
    """The part of a model below a layer.

    Raises:
        ValueError: for a name that is no layer (offers the nearest).
    """
    check_layer(model, layer)
    return Cut(model.static, model.spec.name, layer, before_activation)


def map_shape(model: Model, layer: str, size: int | None = None) -> tuple[int, int, int]:
    """(H', W', F) of a layer's maps; nothing is computed.

    Args:
        model: any.
        layer: one of `model.layer_names`.
        size: height and width of the inputs; None takes the model's own.

    Raises:
        ValueError: if it is no layer, has no maps, or cannot take inputs of that size; for a model
            of something else than images.

    >>> from cnnjax.models import create_model
    >>> map_shape(create_model("lenet"), "conv2", 64)
    (32, 32, 50)
    """
    check_images(model.spec)
    cut = cut_at(model, layer)
    shape = _shape(model, cut, model.spec.sample_shape)
    if len(shape) != 4 or shape[1] * shape[2] > 1:  # a single pixel has filters as well
        check_map(model, layer)
    if size is not None:
        try:
            shape = _shape(model, cut, (size, size, model.spec.input_shape[2]))
        except (TypeError, ValueError, FlaxError) as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"size={size} does not suit layer {layer!r} of {model.spec.name}: {reason}"
            ) from error
        if 0 in shape:
            raise ValueError(f"size={size} is too small for layer {layer!r}: nothing is left there")
    return (shape[1], shape[2], shape[3])


def _shape(model: Model, cut: Cut, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    sample = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    return tuple(jax.eval_shape(cut, model.variables, sample).shape)

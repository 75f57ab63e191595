"""Any net of `cnnjax.nn`'s layers in PyTorch, layer by layer; inputs [N, C, H, W]."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import cnnjax as cj
from cnnjax.models.graph import INPUT, Call, trace
from cnnjax.nn.conv import as_pair, resolve_padding


class TorchGraph(nn.Module):
    """The layers of a model as PyTorch modules.

    Args:
        model: of `cj.create_model`, with weights or only their shapes.
    """

    def __init__(self, model: cj.Model):
        super().__init__()
        self.calls = trace(model)
        self.layers = nn.ModuleList([_layer(call, _shapes(call)) for call in self.calls])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] -> logits [N, K], or maps [N, C, H', W']."""
        outputs: dict[int | None, Any] = {INPUT: x}
        last = {source: i for i, call in enumerate(self.calls) for source in call.sources}
        for i, (call, layer) in enumerate(zip(self.calls, self.layers, strict=True)):
            inputs = [outputs[source] for source in call.sources]
            outputs[i] = layer(inputs) if call.kind in _MERGING else layer(inputs[0])
            for source in call.sources:
                if last[source] == i:
                    outputs.pop(source, None)
        return outputs[len(self.calls) - 1]

    def take_weights(self, model: cj.Model) -> None:
        """Copy a model's weights, for a comparison of outputs."""
        with torch.no_grad():
            self._copy(model)

    def _copy(self, model: cj.Model) -> None:
        values = {**model.params}
        statistics = model.state.get("batch_stats", {})
        for i, (call, layer) in enumerate(zip(self.calls, self.layers, strict=True)):
            ours = {k: np.asarray(v) for k, v in values.get(call.name, {}).items()}
            ours |= {k: np.asarray(v) for k, v in statistics.get(call.name, {}).items()}
            if not ours:
                continue
            target: Any = layer  # of a sequence of layer and activation the layer
            if getattr(call.module, "activation", None) is not None:
                target = target[0]
            match call.kind:
                case "Conv2D":
                    _set(target.conv, ours["kernel"].transpose(3, 2, 0, 1), ours.get("bias"))
                case "DepthwiseConv2D":
                    _set(target.conv, _depthwise(ours["kernel"]), ours.get("bias"))
                case "SeparableConv2D":
                    _set(target[0].conv, _depthwise(ours["depthwise_kernel"]), None)
                    _set(
                        target[1], ours["pointwise_kernel"].transpose(3, 2, 0, 1), ours.get("bias")
                    )
                case "Dense":
                    kernel = _rows_of_torch(self.calls, i, ours["kernel"])
                    _set(target, kernel.T, ours.get("bias"))
                case "BatchNormalization":
                    _set(target, ours.get("gamma"), ours.get("beta"))
                    target.running_mean.copy_(torch.from_numpy(ours["moving_mean"].copy()))
                    target.running_var.copy_(torch.from_numpy(ours["moving_variance"].copy()))


_MERGING = ("Add", "Concatenate")


class _Padded(nn.Module):
    """A convolution behind explicit padding, which may be asymmetric."""

    def __init__(self, conv: nn.Conv2d, pads: Any):
        super().__init__()
        (top, bottom), (left, right) = pads
        self.around = (left, right, top, bottom)
        if top == bottom and left == right:  # as anyone would write it
            conv.padding = (top, left)
            self.around = (0, 0, 0, 0)
        self.conv = conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.pad(x, self.around) if any(self.around) else x)


class _Pool(nn.Module):
    """Pooling behind padding that never wins (maximum) or is not counted (average)."""

    def __init__(self, call: Call, pads: Any):
        super().__init__()
        module: Any = call.module
        self.size = as_pair(module.pool_size, "pool_size")
        self.strides = as_pair(module.strides or module.pool_size, "strides")
        (top, bottom), (left, right) = pads
        self.around, self.maximum = (left, right, top, bottom), "Max" in call.kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right, top, bottom = self.around
        if self.maximum:
            x = F.pad(x, self.around, value=-torch.inf) if any(self.around) else x
            return F.max_pool2d(x, self.size, self.strides)
        if left == right and top == bottom:
            return F.avg_pool2d(x, self.size, self.strides, (top, left), count_include_pad=False)
        raise ValueError("average pooling with asymmetric padding has no equal in PyTorch")


class _Merge(nn.Module):
    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def forward(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        return sum(inputs[1:], inputs[0]) if self.kind == "Add" else torch.cat(inputs, 1)


class _Mean(nn.Module):
    def __init__(self, keepdims: bool):
        super().__init__()
        self.keepdims = keepdims

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3), keepdim=self.keepdims)


def _shapes(call: Call) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return call.input_shapes[0], call.output_shape


def _layer(call: Call, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> nn.Module:
    module: Any = call.module
    inputs, outputs = shapes
    match call.kind:
        case "Conv2D" | "DepthwiseConv2D" | "SeparableConv2D":
            return _with_activation(_convolution(call, inputs, outputs), module.activation)
        case "Dense":
            linear = nn.Linear(inputs[-1], outputs[-1], module.use_bias)
            return _with_activation(linear, module.activation)
        case "BatchNormalization":
            # PyTorch's momentum is the weight of the new value.
            return nn.BatchNorm2d(inputs[-1], module.epsilon, 1 - module.momentum)
        case "MaxPooling2D" | "AveragePooling2D":
            size = as_pair(module.pool_size, "pool_size")
            strides = as_pair(module.strides or module.pool_size, "strides")
            return _Pool(call, resolve_padding(module.padding, inputs[1:3], size, strides))
        case "Activation":
            return _activation(module.function)
        case "ZeroPadding2D":
            (top, bottom), (left, right) = module.padding
            return nn.ZeroPad2d((left, right, top, bottom))
        case "Add" | "Concatenate":
            return _Merge(call.kind)
        case "GlobalAveragePooling2D":
            return _Mean(module.keepdims)
        case "Flatten" | "Reshape":
            return nn.Flatten()
        case "Dropout":
            return nn.Dropout(module.rate)
        case "InputLayer":
            return nn.Identity()
    raise ValueError(f"{call.name} is a {call.kind}, which has no twin in PyTorch here")


def _convolution(call: Call, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> nn.Module:
    module: Any = call.module
    size, strides = as_pair(module.kernel_size, "kernel_size"), as_pair(module.strides, "strides")
    pads = resolve_padding(module.padding, inputs[1:3], size, strides)
    channels = inputs[-1]
    if call.kind == "Conv2D":
        return _Padded(nn.Conv2d(channels, outputs[-1], size, strides, bias=module.use_bias), pads)
    middle = channels * module.depth_multiplier
    separable = call.kind == "SeparableConv2D"
    bias = module.use_bias and not separable
    depthwise = nn.Conv2d(channels, middle, size, strides, groups=channels, bias=bias)
    if not separable:
        return _Padded(depthwise, pads)
    pointwise = nn.Conv2d(middle, outputs[-1], 1, bias=module.use_bias)
    return nn.Sequential(_Padded(depthwise, pads), pointwise)


def _with_activation(layer: nn.Module, function: Any) -> nn.Module:
    return layer if function is None else nn.Sequential(layer, _activation(function))


def _activation(function: Any) -> nn.Module:
    known = {"relu": nn.ReLU, "relu6": nn.ReLU6, "identity": nn.Identity}
    name = getattr(function, "__name__", str(function))
    if name not in known:
        raise ValueError(f"the activation {name} has no twin in PyTorch here")
    return known[name]()


def _depthwise(kernel: np.ndarray) -> np.ndarray:
    """[kh, kw, C, M] to PyTorch's [C M, 1, kh, kw]."""
    kh, kw, channels, multiplier = kernel.shape
    return kernel.reshape(kh, kw, channels * multiplier).transpose(2, 0, 1)[:, None]


def _rows_of_torch(calls: list[Call], number: int, kernel: np.ndarray) -> np.ndarray:
    """Behind a flatten PyTorch's rows come in C, H, W order."""
    source = calls[number].sources[0]
    if source is None or source == INPUT or calls[source].kind != "Flatten":
        return kernel
    _, height, width, channels = calls[source].input_shapes[0]
    split = kernel.reshape(height, width, channels, -1).transpose(2, 0, 1, 3)
    return split.reshape(kernel.shape)


def _set(layer: Any, weight: np.ndarray | None, bias: np.ndarray | None) -> None:
    for parameter, value in ((layer.weight, weight), (layer.bias, bias)):
        if value is not None:
            parameter.copy_(torch.from_numpy(np.array(value, order="C")))

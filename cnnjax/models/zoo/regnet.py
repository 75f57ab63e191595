"""RegNetY (Radosavovic et al. 2020), as torchvision and timm have it, with timm's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from flax import linen
from jax import Array
from jax.nn import relu, sigmoid

from cnnjax.models.backbone import (
    TORCH_EPSILON,
    TORCH_MOMENTUM,
    Backbone,
    depth_rates,
    end,
    normalised,
)
from cnnjax.models.registry import Release, register
from cnnjax.models.torch_names import TorchNames
from cnnjax.nn import (
    Activation,
    Add,
    Conv2D,
    GlobalAveragePooling2D,
    InputLayer,
    Multiply,
    StochasticDepth,
    he_normal_fan_out,
)


def _torchvision_names() -> tuple[tuple[str, str], ...]:
    pairs = [("fc", "predictions"), ("stem.0", "stem_conv"), ("stem.1", "stem_bn")]
    theirs, ours = "trunk_output.block{stage}.block{stage}-{n}", "s{stage}_b{n+1}"
    parts = {"proj": "downsample", "f.a": "conv1", "f.b": "conv2", "f.c": "conv3"}
    for part, name in parts.items():
        pairs.append((f"{theirs}.{part}.0", f"{ours}_{name}_conv"))
        pairs.append((f"{theirs}.{part}.1", f"{ours}_{name}_bn"))
    pairs.append((f"{theirs}.f.se.fc{{i}}", f"{ours}_se_fc{{i}}"))
    return tuple(pairs)


_TIMM_NAMES = (
    ("head.fc", "predictions"),
    ("stem.conv", "stem_conv"),
    ("stem.bn", "stem_bn"),
    ("s{stage}.b{n}.conv{i}.conv", "s{stage}_b{n}_conv{i}_conv"),
    ("s{stage}.b{n}.conv{i}.bn", "s{stage}_b{n}_conv{i}_bn"),
    ("s{stage}.b{n}.se.fc{i}", "s{stage}_b{n}_se_fc{i}"),
    ("s{stage}.b{n}.downsample.conv", "s{stage}_b{n}_downsample_conv"),
    ("s{stage}.b{n}.downsample.bn", "s{stage}_b{n}_downsample_bn"),
)


def _registered(
    name: str, sha256: str, last: int, top_1: float, timm: str, crop: float = 0.965
) -> Callable[[type[RegNetY400MF]], type[RegNetY400MF]]:
    """What all have in common; digits of torchvision's file; timm's name and crop of the net."""
    return register(
        name,
        (224, 224, 3),
        min_size=32,
        num_classes=1000,
        preprocessing="torch",
        cam_layer=f"s4_b{last}_out",
        head=("predictions",),
        paper="Radosavovic et al. 2020, Designing network design spaces",
        year=2020,
        published={"torchvision": top_1},
        release=Release.of_torchvision(f"{name}-{sha256}"),
        foreign=(
            TorchNames("torchvision", _torchvision_names()),
            TorchNames("timm", _TIMM_NAMES, crop=crop, model=timm),
        ),
    )


@_registered("regnet_y_400mf", "c65dace8", 6, 74.046, "regnety_004")
class RegNetY400MF(Backbone):
    """RegNetY of 400 million multiplications: bottlenecks in groups, with squeeze and excitation.

    Kernels of convolutions start as in torchvision (`nn.he_normal_fan_out`), biases as zeros.

    Args:
        num_classes, include_top, pooling, classifier, classifier_dropout: as in `Backbone`.
        stochastic_depth: share of examples for which the last block is left out in training, in
            [0, 1); it grows linearly from 0 at the first block. 0 adds no layers.
    """

    stochastic_depth: float = 0.0

    depths: ClassVar[tuple[int, ...]] = (1, 3, 6, 6)
    widths: ClassVar[tuple[int, ...]] = (48, 104, 208, 440)
    group_width: ClassVar[int] = 8

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        net = _Layers(train, self.group_width)
        rates = iter(depth_rates(self.stochastic_depth, sum(self.depths)))
        x = InputLayer(name="input_layer")(inputs)
        x = net.conv(x, 32, 3, "stem", strides=2)
        for stage, (depth, filters) in enumerate(zip(self.depths, self.widths, strict=True), 1):
            for number in range(1, depth + 1):
                strides = 2 if number == 1 else 1
                x = net.block(x, filters, strides, f"s{stage}_b{number}", next(rates))
        return end(self, x, train, "avg_pool", "max_pool")


class _Layers:
    """The parts of the net, inside a compact module."""

    def __init__(self, train: bool, group_width: int):
        self.train, self.group_width = train, group_width

    def conv(
        self,
        x: Array,
        filters: int,
        size: int,
        name: str,
        strides: int = 1,
        groups: int = 1,
        activate: bool = True,
    ) -> Array:
        """Convolution, normalisation and, unless it is left out, ReLU."""
        conv = Conv2D(
            filters,
            size,
            strides=strides,
            padding=((size // 2, size // 2), (size // 2, size // 2)),
            use_bias=False,
            kernel_initializer=he_normal_fan_out,
            groups=groups,
            name=f"{name}_conv",
        )
        activation = (relu, f"{name}_relu") if activate else None
        norm = f"{name}_bn"
        return normalised(x, conv, self.train, norm, TORCH_EPSILON, activation, TORCH_MOMENTUM)

    def block(self, x: Array, filters: int, strides: int, name: str, rate: float) -> Array:
        """1x1, 3x3 in groups, gate, and 1x1, added to the input or to its projection."""
        shortcut, squeezed = x, round(x.shape[-1] / 4)
        if strides > 1 or x.shape[-1] != filters:
            shortcut = self.conv(x, filters, 1, f"{name}_downsample", strides, activate=False)
        x = self.conv(x, filters, 1, f"{name}_conv1")
        x = self.conv(x, filters, 3, f"{name}_conv2", strides, filters // self.group_width)
        x = self.gated(x, squeezed, f"{name}_se")
        x = self.conv(x, filters, 1, f"{name}_conv3", activate=False)
        if rate:
            x = StochasticDepth(rate, name=f"{name}_drop")(x, self.train)
        return Activation(relu, name=f"{name}_out")(Add(name=f"{name}_add")([shortcut, x]))

    def gated(self, x: Array, squeezed: int, name: str) -> Array:
        """Every channel times a gate that two layers make of all channels' means."""
        gate = GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)
        for number, filters, function in ((1, squeezed, relu), (2, x.shape[-1], sigmoid)):
            conv = Conv2D(
                filters, 1, kernel_initializer=he_normal_fan_out, name=f"{name}_fc{number}"
            )
            gate = Activation(function, name=f"{name}_{function.__name__}")(conv(gate))
        return Multiply(name=f"{name}_scale")([x, gate])


@_registered("regnet_y_800mf", "1b27b58c", 2, 76.42, "regnety_008_tv")
class RegNetY800MF(RegNetY400MF):
    """RegNetY of 800 million multiplications."""

    depths: ClassVar[tuple[int, ...]] = (1, 3, 8, 2)
    widths: ClassVar[tuple[int, ...]] = (64, 144, 320, 784)
    group_width: ClassVar[int] = 16


@_registered("regnet_y_1_6gf", "b11a554e", 2, 77.95, "regnety_016")
class RegNetY1600MF(RegNetY400MF):
    """RegNetY of 1.6 billion multiplications."""

    depths: ClassVar[tuple[int, ...]] = (2, 6, 17, 2)
    widths: ClassVar[tuple[int, ...]] = (48, 120, 336, 888)
    group_width: ClassVar[int] = 24


@_registered("regnet_y_3_2gf", "b5a9779c", 1, 78.948, "regnety_032", 0.95)
class RegNetY3200MF(RegNetY400MF):
    """RegNetY of 3.2 billion multiplications."""

    depths: ClassVar[tuple[int, ...]] = (2, 5, 13, 1)
    widths: ClassVar[tuple[int, ...]] = (72, 216, 576, 1512)
    group_width: ClassVar[int] = 24


@_registered("regnet_y_8gf", "d0d0e4a8", 1, 80.032, "regnety_080_tv")
class RegNetY8GF(RegNetY400MF):
    """RegNetY of 8 billion multiplications."""

    depths: ClassVar[tuple[int, ...]] = (2, 4, 10, 1)
    widths: ClassVar[tuple[int, ...]] = (224, 448, 896, 2016)
    group_width: ClassVar[int] = 56

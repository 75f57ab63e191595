"""ResNet (He et al. 2016), with Keras' names: by Keras' arithmetic or by PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from flax import linen
from jax import Array
from jax.nn import relu

from cnnjax.models.backbone import (
    TORCH_EPSILON,
    TORCH_MOMENTUM,
    Backbone,
    depth_rates,
    end,
    is_torch,
    normalised,
)
from cnnjax.models.registry import Release, register
from cnnjax.models.torch_names import TorchNames
from cnnjax.nn import (
    Activation,
    Add,
    Conv2D,
    InputLayer,
    MaxPooling2D,
    StochasticDepth,
    ZeroPadding2D,
    glorot_uniform,
    he_normal_fan_out,
)

_FILTERS = (64, 128, 256, 512)
_NAMES = (
    ("conv1", "conv1_conv"),
    ("bn1", "conv1_bn"),
    ("layer{stage}.{block}.conv{n}", "conv{stage+1}_block{block+1}_{n}_conv"),
    ("layer{stage}.{block}.bn{n}", "conv{stage+1}_block{block+1}_{n}_bn"),
    ("layer{stage}.{block}.downsample.0", "conv{stage+1}_block{block+1}_0_conv"),
    ("layer{stage}.{block}.downsample.1", "conv{stage+1}_block{block+1}_0_bn"),
    ("fc", "predictions"),
)
# MD5 of Keras' files, with the top and without; or the first digits of torchvision's SHA-256.
_DIGESTS = {
    "resnet18": ("f37072fd",),
    "resnet34": ("b627a593",),
    "resnet50": ("2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626"),
    "resnet101": ("f1aeb4b969a6efcfb50fad2f0c20cfc5", "88cf7a10940856eca736dc7b7e228a21"),
    "resnet152": ("100835be76be38e30d865e96f2aaae62", "ee4c566cf9a93f14d82f913c2dc6dd0c"),
}


def _registered(
    name: str, published: dict[str, float], last_block: int = 3
) -> Callable[[type[_ResNet]], type[_ResNet]]:
    """What all have in common; and what those have that Keras has, too."""
    digests = _DIGESTS[name]
    release = Release.of_torchvision(f"{name}-{digests[0]}")
    if keras := len(digests) > 1:
        release = Release.of_keras(name, digests[0], digests[1], folder="resnet")
    arguments = {"origin": "torch"} if keras else {}
    return register(
        name,
        (224, 224, 3),
        min_size=32,
        num_classes=1000,
        preprocessing="caffe" if keras else "torch",
        cam_layer=f"conv5_block{last_block}_out",
        head=("predictions",),
        paper="He et al. 2016, Deep residual learning for image recognition",
        year=2016,
        published=published,
        release=release,
        foreign=(
            TorchNames("torchvision", _NAMES, arguments),
            TorchNames("timm", _NAMES, arguments, crop=0.95),
        ),
    )


class _ResNet(Backbone):
    """Four stages of residual blocks, ReLU after the addition."""

    stochastic_depth: float = 0.0

    blocks: ClassVar[tuple[int, ...]]
    bottleneck: ClassVar[bool] = True

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        net = _Layers(train, is_torch(getattr(self, "origin", "torch")))
        block = net.bottleneck if self.bottleneck else net.basic
        rates = iter(depth_rates(self.stochastic_depth, sum(self.blocks)))
        x = InputLayer(name="input_layer")(inputs)
        x = ZeroPadding2D(((3, 3), (3, 3)), name="conv1_pad")(x)
        x = net.conv(x, 64, 7, 2, "conv1")
        # After ReLU zeros around the image win no more than PyTorch's minus infinity does.
        x = ZeroPadding2D(((1, 1), (1, 1)), name="pool1_pad")(x)
        x = MaxPooling2D(3, strides=2, name="pool1_pool")(x)
        for stage, (filters, count) in enumerate(zip(_FILTERS, self.blocks, strict=True), start=2):
            for number in range(1, count + 1):
                strides = 2 if stage > 2 and number == 1 else 1
                x = block(x, filters, strides, f"conv{stage}_block{number}", next(rates))
        return end(self, x, train, "avg_pool", "max_pool")


class _Layers:
    """The blocks, inside a compact module."""

    def __init__(self, train: bool, torch: bool):
        self.train, self.torch = train, torch

    def conv(
        self, x: Array, filters: int, size: int, strides: int, name: str, activate: bool = True
    ) -> Array:
        """Convolution, normalisation and, unless it is left out, ReLU."""
        # A 3x3 with a stride, which Keras' nets have not, is padded alike on all sides.
        padding = {3: "same" if strides == 1 else ((1, 1), (1, 1))}.get(size, "valid")
        conv = Conv2D(
            filters,
            size,
            strides=strides,
            padding=padding,
            use_bias=not self.torch,
            kernel_initializer=he_normal_fan_out if self.torch else glorot_uniform,
            name=f"{name}_conv",
        )
        activation = (relu, f"{name}_relu") if activate else None
        epsilon, momentum = (TORCH_EPSILON, TORCH_MOMENTUM) if self.torch else (1.001e-5, 0.99)
        return normalised(x, conv, self.train, f"{name}_bn", epsilon, activation, momentum)

    def bottleneck(self, x: Array, filters: int, strides: int, name: str, rate: float) -> Array:
        """1x1, 3x3 and 1x1 convolution, added to the input or to its projection."""
        first, second = (1, strides) if self.torch else (strides, 1)
        shortcut = self.shortcut(x, 4 * filters, strides, name)
        x = self.conv(x, filters, 1, first, f"{name}_1")
        x = self.conv(x, filters, 3, second, f"{name}_2")
        x = self.conv(x, 4 * filters, 1, 1, f"{name}_3", activate=False)
        return self.sum(shortcut, x, name, rate)

    def basic(self, x: Array, filters: int, strides: int, name: str, rate: float) -> Array:
        """Two 3x3 convolutions, added to the input or to its projection."""
        shortcut = self.shortcut(x, filters, strides, name)
        x = self.conv(x, filters, 3, strides, f"{name}_1")
        x = self.conv(x, filters, 3, 1, f"{name}_2", activate=False)
        return self.sum(shortcut, x, name, rate)

    def shortcut(self, x: Array, filters: int, strides: int, name: str) -> Array:
        """The input, or its projection where shapes differ."""
        if strides == 1 and x.shape[-1] == filters:
            return x
        return self.conv(x, filters, 1, strides, f"{name}_0", activate=False)

    def sum(self, shortcut: Array, x: Array, name: str, rate: float) -> Array:
        """Addition, of some examples without the branch where there is a rate, and ReLU."""
        if rate:
            x = StochasticDepth(rate, name=f"{name}_drop")(x, self.train)
        return Activation(relu, name=f"{name}_out")(Add(name=f"{name}_add")([shortcut, x]))


@_registered("resnet18", {"torchvision": 69.758}, last_block=2)
class ResNet18(_ResNet):
    """ResNet18: eight basic blocks, by PyTorch's arithmetic; Keras has no such net.

    Kernels of convolutions start as in torchvision (`nn.he_normal_fan_out`).

    Args:
        num_classes, include_top, pooling, classifier, classifier_dropout: as in `Backbone`.
        stochastic_depth: share of examples for which the last block is left out in training, in
            [0, 1); it grows linearly from 0 at the first block. 0 adds no layers.
    """

    blocks: ClassVar[tuple[int, ...]] = (2, 2, 2, 2)
    bottleneck: ClassVar[bool] = False


@_registered("resnet34", {"torchvision": 73.314})
class ResNet34(ResNet18):
    """ResNet34: sixteen basic blocks, by PyTorch's arithmetic; Keras has no such net."""

    blocks: ClassVar[tuple[int, ...]] = (3, 4, 6, 3)


@_registered("resnet50", {"keras": 74.9, "torchvision": 76.13})
class ResNet50(_ResNet):
    """ResNet50: four stages of bottleneck blocks, ReLU after the addition.

    Args:
        num_classes, include_top, pooling, classifier, classifier_dropout: as in `Backbone`.
        origin: "keras": the stride is in the first 1x1 convolution, convolutions have a bias, and
            epsilon is 1.001e-5; or "torch": the stride is in the 3x3, there is no bias, epsilon is
            1e-5, the momentum of statistics 0.9, and kernels start as in torchvision
            (`nn.he_normal_fan_out`). PyTorch's nets take preprocessing="torch".
        stochastic_depth: as in `ResNet18`.
    """

    origin: str = "keras"

    blocks: ClassVar[tuple[int, ...]] = (3, 4, 6, 3)


@_registered("resnet101", {"keras": 76.4, "torchvision": 77.374})
class ResNet101(ResNet50):
    """ResNet101: ResNet50 with twenty-three blocks in its third stage."""

    blocks: ClassVar[tuple[int, ...]] = (3, 4, 23, 3)


@_registered("resnet152", {"keras": 76.6, "torchvision": 78.312})
class ResNet152(ResNet50):
    """ResNet152: ResNet50 with eight and thirty-six blocks in its second and third stage."""

    blocks: ClassVar[tuple[int, ...]] = (3, 8, 36, 3)

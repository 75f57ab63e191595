"""DenseNet (Huang et al. 2017), with Keras' names: by Keras' arithmetic or by PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from flax import linen
from jax import Array
from jax.nn import relu

from cnnjax.models.backbone import (
    TORCH_EPSILON,
    TORCH_MOMENTUM,
    AutomaticNames,
    Backbone,
    end,
    is_torch,
)
from cnnjax.models.registry import Release, register
from cnnjax.models.torch_names import TorchNames
from cnnjax.nn import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    InputLayer,
    MaxPooling2D,
    ZeroPadding2D,
    glorot_uniform,
    he_normal,
)

_GROWTH = 32  # channels that a layer adds

_LAYER, _OURS = "features.denseblock{block}.denselayer{n}", "conv{block+1}_block{n}"
_NAMES = (
    ("features.conv0", "conv1_conv"),
    ("features.norm0", "conv1_bn"),
    (f"{_LAYER}.norm1", f"{_OURS}_0_bn"),
    (f"{_LAYER}.conv1", f"{_OURS}_1_conv"),
    (f"{_LAYER}.norm2", f"{_OURS}_1_bn"),
    (f"{_LAYER}.conv2", f"{_OURS}_2_conv"),
    # As in the files that torchvision publishes, which are older than its code.
    (f"{_LAYER}.norm.1", f"{_OURS}_0_bn"),
    (f"{_LAYER}.conv.1", f"{_OURS}_1_conv"),
    (f"{_LAYER}.norm.2", f"{_OURS}_1_bn"),
    (f"{_LAYER}.conv.2", f"{_OURS}_2_conv"),
    ("features.transition{n}.norm", "pool{n+1}_bn"),
    ("features.transition{n}.conv", "pool{n+1}_conv"),
    ("features.norm5", "bn"),
    ("classifier", "predictions"),
)


def _registered(
    name: str, published: dict[str, float], top: str, without_top: str
) -> Callable[[type[DenseNet121]], type[DenseNet121]]:
    """What the three have in common, with the MD5 of Keras' files."""
    return register(
        name,
        (224, 224, 3),
        min_size=32,
        num_classes=1000,
        preprocessing="torch",  # Keras', too, which has its weights from there
        cam_layer="relu",
        head=("predictions",),
        paper="Huang et al. 2017, Densely connected convolutional networks",
        year=2017,
        published=published,
        release=Release.of_keras(name, top, without_top, folder="densenet"),
        foreign=tuple(
            TorchNames(source, _NAMES, {"origin": "torch"}) for source in ("torchvision", "timm")
        ),
    )


@_registered(
    "densenet121",
    {"keras": 75.0, "torchvision": 74.434},
    "9d60b8095a5708f2dcce2bca79d332c7",
    "30ee3e1110167f948a6b9946edeeb738",
)
class DenseNet121(Backbone):
    """DenseNet121: four blocks whose layers see the outputs of all layers before them.

    Args:
        num_classes, include_top, pooling, classifier, classifier_dropout: as in `Backbone`.
        origin: "keras": epsilon is 1.001e-5; or "torch": epsilon is 1e-5, the momentum of
            statistics 0.9, and kernels of convolutions start as in torchvision (`nn.he_normal`).
    """

    origin: str = "keras"

    blocks: ClassVar[tuple[int, ...]] = (6, 12, 24, 16)

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        net, names = _Layers(train, is_torch(self.origin)), AutomaticNames()
        x = InputLayer(name="input_layer")(inputs)
        x = ZeroPadding2D(((3, 3), (3, 3)), name=names("zero_padding2d"))(x)
        x = net.active(net.conv(x, 64, 7, "conv1_conv", strides=2), "conv1")
        # After ReLU zeros around the image win no more than PyTorch's minus infinity does.
        x = ZeroPadding2D(((1, 1), (1, 1)), name=names("zero_padding2d"))(x)
        x = MaxPooling2D(3, strides=2, name="pool1")(x)
        for stage, count in enumerate(self.blocks, start=2):
            if stage > 2:
                x = net.transition(x, f"pool{stage - 1}")
            for number in range(1, count + 1):
                x = net.grown(x, f"conv{stage}_block{number}")
        x = net.active(x, "")
        return end(self, x, train, "avg_pool", "max_pool")


class _Layers:
    """The parts of the net, inside a compact module."""

    def __init__(self, train: bool, torch: bool):
        self.train, self.torch = train, torch

    def conv(self, x: Array, filters: int, size: int, name: str, strides: int = 1) -> Array:
        """Convolution without bias."""
        return Conv2D(
            filters,
            size,
            strides=strides,
            padding="same" if size == 3 else "valid",
            use_bias=False,
            kernel_initializer=he_normal if self.torch else glorot_uniform,
            name=name,
        )(x)

    def active(self, x: Array, name: str) -> Array:
        """Normalisation and ReLU."""
        epsilon, momentum = (TORCH_EPSILON, TORCH_MOMENTUM) if self.torch else (1.001e-5, 0.99)
        prefix = name and f"{name}_"
        x = BatchNormalization(momentum, epsilon, name=f"{prefix}bn")(x, self.train)
        return Activation(relu, name=f"{prefix}relu")(x)

    def grown(self, x: Array, name: str) -> Array:
        """The input, and beside it what a 1x1 and a 3x3 convolution make of it."""
        new = self.conv(self.active(x, f"{name}_0"), 4 * _GROWTH, 1, f"{name}_1_conv")
        new = self.conv(self.active(new, f"{name}_1"), _GROWTH, 3, f"{name}_2_conv")
        return Concatenate(name=f"{name}_concat")([x, new])

    def transition(self, x: Array, name: str) -> Array:
        """1x1 convolution to half of the channels, mean over 2x2."""
        x = self.conv(self.active(x, name), x.shape[-1] // 2, 1, f"{name}_conv")
        return AveragePooling2D(2, strides=2, name=f"{name}_pool")(x)


@_registered(
    "densenet169",
    {"keras": 76.2, "torchvision": 75.6},
    "d699b8f76981ab1b30698df4c175e90b",
    "b8c4d4c20dd625c148057b9ff1c1176b",
)
class DenseNet169(DenseNet121):
    """DenseNet169: DenseNet121 with thirty-two layers in its third and fourth block."""

    blocks: ClassVar[tuple[int, ...]] = (6, 12, 32, 32)


@_registered(
    "densenet201",
    {"keras": 77.3, "torchvision": 76.896},
    "1ceb130c1ea1b78c3bf6114dbdfd8807",
    "c13680b51ded0fb44dff2d8f86ac8bb1",
)
class DenseNet201(DenseNet121):
    """DenseNet201: DenseNet121 with forty-eight and thirty-two layers in its last two blocks."""

    blocks: ClassVar[tuple[int, ...]] = (6, 12, 48, 32)

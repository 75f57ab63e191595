"""InceptionV3 (Szegedy et al. 2016), with Keras' names: by Keras' arithmetic or by PyTorch's."""

from __future__ import annotations

from flax import linen
from jax import Array
from jax.nn import relu

from cnnjax.models.backbone import TORCH_MOMENTUM, AutomaticNames, Backbone, end, is_torch
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
)


def _names() -> tuple[tuple[str, str], ...]:
    """PyTorch's, whose convolutions stand in the same order."""
    stem = ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3")
    numbers = {n: [f"_{i}" for i in range(1, n + 1)] for n in range(2, 6)}
    double = [f"branch3x3dbl{n}" for n in numbers[3]]
    fives = ["branch1x1", *(f"branch5x5{n}" for n in numbers[2]), *double, "branch_pool"]
    sevens = [*(f"branch7x7{n}" for n in numbers[3]), *(f"branch7x7dbl{n}" for n in numbers[5])]
    reduced = [*(f"branch3x3{n}" for n in numbers[2]), *(f"branch7x7x3{n}" for n in numbers[4])]
    split = [f"branch3x3{n}" for n in ("_1", "_2a", "_2b", "dbl_1", "dbl_2", "dbl_3a", "dbl_3b")]
    blocks = (
        *((f"Mixed_5{letter}", fives) for letter in "bcd"),
        ("Mixed_6a", ["branch3x3", *double]),
        *((f"Mixed_6{letter}", ["branch1x1", *sevens, "branch_pool"]) for letter in "bcde"),
        ("Mixed_7a", reduced),
        *((f"Mixed_7{letter}", ["branch1x1", *split, "branch_pool"]) for letter in "bc"),
    )
    convolutions = [f"Conv2d_{name}" for name in stem]
    convolutions += [f"{block}.{branch}" for block, branches in blocks for branch in branches]
    names, pairs = AutomaticNames(), [("fc", "predictions")]
    for theirs in convolutions:
        pairs.append((f"{theirs}.conv", names("conv2d")))
        pairs.append((f"{theirs}.bn", names("batch_normalization")))
    return tuple(pairs)


def _foreign(source: str) -> TorchNames:
    # torchvision's weights change images normalised its way to what Keras' preprocessing makes.
    unused = ("AuxLogits.*",)
    return TorchNames(source, _names(), {"origin": "torch"}, "tf", 0.875, unused=unused)


@register(
    "inception_v3",
    (299, 299, 3),
    min_size=75,
    num_classes=1000,
    preprocessing="tf",
    cam_layer="mixed10",
    head=("predictions",),
    paper="Szegedy et al. 2016, Rethinking the Inception architecture for computer vision",
    year=2016,
    published={"keras": 77.9, "torchvision": 77.294},
    foreign=(_foreign("torchvision"), _foreign("timm")),
    release=Release.of_keras(
        "inception_v3", "9a0d58056eeedaa3f26cb7ebd46da564", "bcbd6486424b2319ff4ef7d526e38f63"
    ),
)
class InceptionV3(Backbone):
    """InceptionV3: eleven mixed blocks of parallel convolutions.

    Args:
        num_classes, include_top, pooling, classifier, classifier_dropout: as in `Backbone`.
        origin: "keras": normalisations have no scale, and means of windows leave out the padding;
            or "torch": they have one, with the momentum 0.9 of statistics, and means count zeros
            around the map. PyTorch's auxiliary head, and its dropout before the head, are not here.
    """

    origin: str = "keras"

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        net = _Layers(train, is_torch(self.origin))
        x = InputLayer(name="input_layer")(inputs)
        x = net.conv(x, 32, 3, strides=2, padding="valid")
        x = net.conv(x, 32, 3, padding="valid")
        x = net.conv(x, 64, 3)
        x = net.max_pool(x)
        x = net.conv(x, 80, 1, padding="valid")
        x = net.conv(x, 192, 3, padding="valid")
        x = net.max_pool(x)
        for number, projected in enumerate((32, 64, 64)):
            x = net.fives(x, projected, f"mixed{number}")
        x = net.reduce_threes(x, "mixed3")
        for number, filters in enumerate((128, 160, 160, 192), start=4):
            x = net.sevens(x, filters, f"mixed{number}")
        x = net.reduce_sevens(x, "mixed8")
        for number in (0, 1):
            x = net.split_threes(x, f"mixed9_{number}", f"mixed{9 + number}")
        return end(self, x, train)


class _Layers:
    """The blocks, inside a compact module; layers get Keras' automatic names in this order."""

    def __init__(self, train: bool, torch: bool):
        self.train, self.torch = train, torch
        self.names = AutomaticNames()

    def conv(
        self,
        x: Array,
        filters: int,
        kernel_size: int | tuple[int, int],
        strides: int = 1,
        padding: str = "same",
    ) -> Array:
        """Convolution without bias, normalisation, ReLU."""
        names = self.names
        x = Conv2D(
            filters,
            kernel_size,
            strides=strides,
            padding=padding,
            use_bias=False,
            name=names("conv2d"),
        )(x)
        momentum, name = TORCH_MOMENTUM if self.torch else 0.99, names("batch_normalization")
        x = BatchNormalization(momentum, scale=self.torch, name=name)(x, self.train)
        return Activation(relu, name=names("activation"))(x)

    def convs(self, x: Array, *sizes: tuple[int, int | tuple[int, int]]) -> Array:
        """One convolution after the other, each (filters, kernel_size)."""
        for filters, kernel_size in sizes:
            x = self.conv(x, filters, kernel_size)
        return x

    def max_pool(self, x: Array) -> Array:
        return MaxPooling2D(3, strides=2, name=self.names("max_pooling2d"))(x)

    def pooled_conv(self, x: Array, filters: int) -> Array:
        padding = "same"
        if self.torch:
            x = ZeroPadding2D(((1, 1), (1, 1)), name=self.names("zero_padding2d"))(x)
            padding = "valid"
        name = self.names("average_pooling2d")
        return self.conv(AveragePooling2D(3, strides=1, padding=padding, name=name)(x), filters, 1)

    def fives(self, x: Array, projected: int, name: str) -> Array:
        """1x1; 5x5; two 3x3; pooling."""
        branches = [
            self.conv(x, 64, 1),
            self.convs(x, (48, 1), (64, 5)),
            self.convs(x, (64, 1), (96, 3), (96, 3)),
            self.pooled_conv(x, projected),
        ]
        return Concatenate(name=name)(branches)

    def reduce_threes(self, x: Array, name: str) -> Array:
        """3x3 and two 3x3 with stride 2; max pooling."""
        short = self.conv(x, 384, 3, strides=2, padding="valid")
        long = self.convs(x, (64, 1), (96, 3))
        long = self.conv(long, 96, 3, strides=2, padding="valid")
        return Concatenate(name=name)([short, long, self.max_pool(x)])

    def sevens(self, x: Array, filters: int, name: str) -> Array:
        """1x1; 7x7 in two halves; 7x7 twice in halves; pooling."""
        n, across, down = filters, (1, 7), (7, 1)
        branches = [
            self.conv(x, 192, 1),
            self.convs(x, (n, 1), (n, across), (192, down)),
            self.convs(x, (n, 1), (n, down), (n, across), (n, down), (192, across)),
            self.pooled_conv(x, 192),
        ]
        return Concatenate(name=name)(branches)

    def reduce_sevens(self, x: Array, name: str) -> Array:
        """3x3 and 7x7 in halves, both ending with stride 2; max pooling."""
        short = self.conv(self.conv(x, 192, 1), 320, 3, strides=2, padding="valid")
        long = self.convs(x, (192, 1), (192, (1, 7)), (192, (7, 1)))
        long = self.conv(long, 192, 3, strides=2, padding="valid")
        return Concatenate(name=name)([short, long, self.max_pool(x)])

    def split_threes(self, x: Array, inner_name: str, name: str) -> Array:
        """1x1; 3x3 as row beside column, once directly and once after a 3x3; pooling."""
        single = self.conv(x, 320, 1)
        short = self._row_and_column(self.conv(x, 384, 1), inner_name)
        long = self.convs(x, (448, 1), (384, 3))
        long = self._row_and_column(long, self.names("concatenate"))
        return Concatenate(name=name)([single, short, long, self.pooled_conv(x, 192)])

    def _row_and_column(self, x: Array, name: str) -> Array:
        row, column = self.conv(x, 384, (1, 3)), self.conv(x, 384, (3, 1))
        return Concatenate(name=name)([row, column])

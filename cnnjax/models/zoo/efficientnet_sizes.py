"""EfficientNet B0 to B7 and V2-S: their widths and depths, files, and names in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from cnnjax.models.backbone import TORCH_EPSILON
from cnnjax.models.registry import Release, register
from cnnjax.models.torch_blocks import timm_block, torchvision_block
from cnnjax.models.torch_names import TorchNames
from cnnjax.models.zoo.efficientnet import V1, V2_S, EfficientNet, Stage, block_name, parts_of


def _torchvision(net: type[EfficientNet]) -> dict[str, str]:
    names = {"features.0.0": "stem_conv", "features.0.1": "stem_bn", "classifier.1": "predictions"}
    for place, block, stage in net.blocks():
        parts = parts_of(block_name(place, block), stage, net.depthwise_name)
        names |= torchvision_block(f"features.{place}.{block}.block", parts)
    last = f"features.{len(net.stages) + 1}"
    return names | {f"{last}.0": "top_conv", f"{last}.1": "top_bn"}


def _timm(net: type[EfficientNet]) -> dict[str, str]:
    names = {"conv_stem": "stem_conv", "bn1": "stem_bn", "classifier": "predictions"}
    for place, block, stage in net.blocks():
        parts = parts_of(block_name(place, block), stage, net.depthwise_name)
        layers = ("conv_exp", "conv_pwl") if stage.expansion > 1 else ("conv",)
        theirs = f"blocks.{place - 1}.{block}"
        names |= timm_block(theirs, parts, layers if stage.fused else None)
    return names | {"conv_head": "top_conv", "bn2": "top_bn"}


_HOST = "https://storage.googleapis.com/keras-applications"
_PAPERS = (
    "Tan & Le 2019, EfficientNet: rethinking model scaling for convolutional neural networks",
    "Tan & Le 2021, EfficientNetV2: smaller models and faster training",
)


def _registered(
    name: str, size: int, crop: float, keras: float, torchvision: float, top: str, without_top: str
) -> Callable[[type[EfficientNet]], type[EfficientNet]]:
    """Register one of the nets: torchvision's crop, accuracies, the digests of Keras' files."""

    def register_net(net: type[EfficientNet]) -> type[EfficientNet]:
        second = net.stages is not V1
        files = f"{_HOST}/{name.replace('_', '')}"
        timm: dict[str, Any] = {"origin": "torch", "epsilon": TORCH_EPSILON}
        tables: tuple[TorchNames, ...] = (
            TorchNames("torchvision", lambda _: _torchvision(net), {"origin": "torch"}, crop=crop),
            TorchNames("timm", lambda _: _timm(net), timm),
            TorchNames("timm", lambda _: _timm(net), {"origin": "keras"}, model=f"tf_{name}"),
        )
        if second:
            files = "efficientnet_v2/efficientnetv2-s"
            tables = (
                tables[0],
                TorchNames("timm", lambda _: _timm(net), {}, "tf", 1.0, "tf_efficientnetv2_s"),
            )
        return register(
            name,
            (size, size, 3),
            min_size=32,
            num_classes=1000,
            preprocessing="tf128" if second else "torch",
            cam_layer="top_activation",
            head=("predictions",),
            paper=_PAPERS[second],
            year=2021 if second else 2019,
            published={"keras": keras, "torchvision": torchvision},
            release=Release((f"{files}.h5", top), (f"{files}_notop.h5", without_top)),
            foreign=tables,
        )(net)

    return register_net


@_registered(
    "efficientnet_b0",
    224,
    224 / 256,
    77.1,
    77.692,
    "902e53a9f72be733fc0bcb005b3ebbac",
    "50bc09e76180e00e4465e1a485ddc09d",
)
class EfficientNetB0(EfficientNet):
    """EfficientNet-B0: seven stages of inverted residual blocks, for 224x224 pixels."""


@_registered(
    "efficientnet_b1",
    240,
    240 / 255,
    79.1,
    79.838,
    "1d254153d4ab51201f1646940f018540",
    "74c4e6b3e1f6a1eea24c589628592432",
)
class EfficientNetB1(EfficientNet):
    """EfficientNet-B1: 1.0 times as wide and 1.1 times as deep as B0, for 240x240 pixels."""

    depth: ClassVar[float] = 1.1


@_registered(
    "efficientnet_b2",
    260,
    1.0,
    80.1,
    80.608,
    "b15cce36ff4dcbd00b6dd88e7857a6ad",
    "111f8e2ac8aa800a7a99e3239f7bfb39",
)
class EfficientNetB2(EfficientNet):
    """EfficientNet-B2: 1.1 times as wide and 1.2 times as deep as B0, for 260x260 pixels."""

    width: ClassVar[float] = 1.1
    depth: ClassVar[float] = 1.2
    rate: ClassVar[float] = 0.3


@_registered(
    "efficientnet_b3",
    300,
    300 / 320,
    81.6,
    82.008,
    "ffd1fdc53d0ce67064dc6a9c7960ede0",
    "af6d107764bb5b1abb91932881670226",
)
class EfficientNetB3(EfficientNet):
    """EfficientNet-B3: 1.2 times as wide and 1.4 times as deep as B0, for 300x300 pixels."""

    width: ClassVar[float] = 1.2
    depth: ClassVar[float] = 1.4
    rate: ClassVar[float] = 0.3


@_registered(
    "efficientnet_b4",
    380,
    380 / 384,
    82.9,
    83.384,
    "18c95ad55216b8f92d7e70b3a046e2fc",
    "ebc24e6d6c33eaebbd558eafbeedf1ba",
)
class EfficientNetB4(EfficientNet):
    """EfficientNet-B4: 1.4 times as wide and 1.8 times as deep as B0, for 380x380 pixels."""

    width: ClassVar[float] = 1.4
    depth: ClassVar[float] = 1.8
    rate: ClassVar[float] = 0.4


@_registered(
    "efficientnet_b5",
    456,
    1.0,
    83.6,
    83.444,
    "ace28f2a6363774853a83a0b21b9421a",
    "38879255a25d3c92d5e44e04ae6cec6f",
)
class EfficientNetB5(EfficientNet):
    """EfficientNet-B5: 1.6 times as wide and 2.2 times as deep as B0, for 456x456 pixels."""

    width: ClassVar[float] = 1.6
    depth: ClassVar[float] = 2.2
    rate: ClassVar[float] = 0.4
    torch_epsilon: ClassVar[float] = 1e-3
    torch_momentum: ClassVar[float] = 0.99


@_registered(
    "efficientnet_b6",
    528,
    1.0,
    84.0,
    84.008,
    "165f6e37dce68623721b423839de8be5",
    "9ecce42647a20130c1f39a5d4cb75743",
)
class EfficientNetB6(EfficientNet):
    """EfficientNet-B6: 1.8 times as wide and 2.6 times as deep as B0, for 528x528 pixels."""

    width: ClassVar[float] = 1.8
    depth: ClassVar[float] = 2.6
    rate: ClassVar[float] = 0.5
    torch_epsilon: ClassVar[float] = 1e-3
    torch_momentum: ClassVar[float] = 0.99


@_registered(
    "efficientnet_b7",
    600,
    1.0,
    84.3,
    84.122,
    "8c03f828fec3ef71311cd463b6759d99",
    "cbcfe4450ddf6f3ad90b1b398090fe4a",
)
class EfficientNetB7(EfficientNet):
    """EfficientNet-B7: 2.0 times as wide and 3.1 times as deep as B0, for 600x600 pixels."""

    width: ClassVar[float] = 2.0
    depth: ClassVar[float] = 3.1
    rate: ClassVar[float] = 0.5
    torch_epsilon: ClassVar[float] = 1e-3
    torch_momentum: ClassVar[float] = 0.99


@_registered(
    "efficientnet_v2_s",
    384,
    1.0,
    83.9,
    84.228,
    "e1d88a8495beba45748fedd0cecbe016",
    "af0682fb74e8c54910f2d4393339c070",
)
class EfficientNetV2S(EfficientNet):
    """EfficientNetV2-S: whole convolutions in its first three stages, for images of 384x384."""

    keras_rescaling: ClassVar[float | None] = None
    stages: ClassVar[tuple[Stage, ...]] = V2_S
    stem: ClassVar[int] = 24
    depthwise_name: ClassVar[str] = "dwconv2"
    torch_epsilon: ClassVar[float] = 1e-3

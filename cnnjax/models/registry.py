"""Models by name."""

from __future__ import annotations

from typing import Any

from flax import linen

from cnnjax.core.checks import whole_number
from cnnjax.core.text import suggest
from cnnjax.data import Vocabulary
from cnnjax.models import imagenet
from cnnjax.models.builder import Builder, check_arguments, checked_shape, plain
from cnnjax.models.spec import TOKENS, ModelSpec
from cnnjax.models.zoo.backbone import classifier_layers
from cnnjax.models.zoo.captcha_reader import Captcha, position_layers
from cnnjax.models.zoo.inception import InceptionV3
from cnnjax.models.zoo.mobilenet import ALPHAS, MobileNet
from cnnjax.models.zoo.resnet import ResNet50
from cnnjax.models.zoo.separable_nets import SeparableConvnet, SeparableTwin
from cnnjax.models.zoo.series_nets import SeriesConv1D, SeriesGRU, SeriesWindows
from cnnjax.models.zoo.small import (
    MLP,
    CatsConvnet,
    CifarDeep,
    CifarPlain,
    LayersWalk,
    LeNet,
    MnistConvnet,
    SimpleConvNet,
)
from cnnjax.models.zoo.text_nets import CELLS, ImdbConv1D, ImdbGRU
from cnnjax.models.zoo.vgg import VGG16, VGG19
from cnnjax.models.zoo.xception import Xception

_LENET = "LeCun et al. 1998, Gradient-based learning applied to document recognition"
_VGG = "Simonyan & Zisserman 2015, Very deep convolutional networks for large-scale recognition"
_RESNET = "He et al. 2016, Deep residual learning for image recognition"
_INCEPTION = "Szegedy et al. 2016, Rethinking the Inception architecture for computer vision"
_XCEPTION = "Chollet 2017, Xception: deep learning with depthwise separable convolutions"
_WAVENET = "van den Oord et al. 2016, WaveNet: a generative model for raw audio"
_MOBILENET = "Howard et al. 2017, MobileNets: efficient convolutional neural networks"

BUILDERS: dict[str, Builder] = {
    "mlp": Builder(MLP, (28, 28, 1), 1, head=("logits",)),
    "mnist_convnet": Builder(MnistConvnet, (28, 28, 1), 18, cam_layer="conv3", head=("logits",)),
    "lenet": Builder(LeNet, (28, 28, 1), 4, _LENET, cam_layer="conv2", head=("logits",)),
    "simple_convnet": Builder(SimpleConvNet, (28, 28, 1), 6, cam_layer="conv1", head=("logits",)),
    "cifar_plain": Builder(CifarPlain, (32, 32, 3), 2, cam_layer="conv1", head=("logits",)),
    "cifar_deep": Builder(CifarDeep, (32, 32, 3), 8, cam_layer="conv4", head=("logits",)),
    "cats_convnet": Builder(
        CatsConvnet, (150, 150, 3), 46, num_classes=1, cam_layer="conv4", head=("logits",)
    ),
    "separable_convnet": Builder(SeparableConvnet, (32, 32, 3), 32, head=("logits",)),
    "separable_twin": Builder(SeparableTwin, (32, 32, 3), 32, head=("logits",)),
    "layers_walk": Builder(LayersWalk, (128, 128, 3), 38, num_classes=8, head=("dense",)),
    "series_conv1d": Builder(
        SeriesConv1D, (336, 1), 1, _WAVENET, 24, "none", head=("forecast",), task="values"
    ),
    "series_gru": Builder(
        SeriesGRU, (336, 1), 1, "", 24, "none", head=("forecast",), task="values"
    ),
    "series_windows": Builder(
        SeriesWindows, (336, 1), 24, "", 24, "none", head=("dense1", "forecast"), task="values"
    ),
    "captcha": Builder(
        Captcha, (64, 160, 1), 16, "", 36, cam_layer="relu4", head=position_layers(4),
        task="positions", resize="stretch",
    ),
    # A step of conv1 sees 7 words, one of conv2 41: too many to say which of them it was.
    "imdb_conv1d": Builder(
        ImdbConv1D, (500,), 41, "", 1, TOKENS, cam_layer="conv1", head=("logits",)
    ),
    "imdb_gru": Builder(
        ImdbGRU, (500,), 1, "", 1, TOKENS, head=("logits",), choices=(("cell", tuple(CELLS)),)
    ),
    "vgg16": Builder(
        VGG16, (224, 224, 3), 32, _VGG, 1000, "caffe", "block5_conv3",
        ("fc1", "fc2", "predictions"), imagenet.VGG16,
    ),
    "vgg19": Builder(
        VGG19, (224, 224, 3), 32, _VGG, 1000, "caffe", "block5_conv4",
        ("fc1", "fc2", "predictions"), imagenet.VGG19,
    ),
    "resnet50": Builder(
        ResNet50, (224, 224, 3), 32, _RESNET, 1000, "caffe", "conv5_block3_out",
        ("predictions",), imagenet.RESNET50,
    ),
    "inception_v3": Builder(
        InceptionV3, (299, 299, 3), 75, _INCEPTION, 1000, "tf", "mixed10",
        ("predictions",), imagenet.INCEPTION_V3,
    ),
    "xception": Builder(
        Xception, (299, 299, 3), 71, _XCEPTION, 1000, "tf", "block14_sepconv2_act",
        ("predictions",), imagenet.XCEPTION,
    ),
    "mobilenet": Builder(
        MobileNet, (224, 224, 3), 32, _MOBILENET, 1000, "tf", "conv_pw_13_relu",
        ("conv_preds",), imagenet.MOBILENET, (("alpha", ALPHAS),),
    ),
}  # fmt: skip


def build(
    name: str,
    *,
    input_shape: tuple[int, ...] | None = None,
    num_classes: int | None = None,
    label_names: tuple[str, ...] = (),
    preprocessing: str | None = None,
    vocabulary: Vocabulary | None = None,
    **arguments: Any,
) -> tuple[linen.Module, ModelSpec]:
    """The module and spec of a model, without variables; arguments as in `create_model`."""
    if name not in BUILDERS:
        raise ValueError(f"there is no model {name!r}. {suggest(name, BUILDERS, 'models')}")
    builder = BUILDERS[name]
    arguments = {k: plain(v) for k, v in arguments.items()}
    check_arguments(name, builder, arguments)
    preprocessing = preprocessing or builder.preprocessing
    texts = builder.preprocessing == TOKENS
    if texts != (preprocessing == TOKENS):
        raise ValueError(
            f"preprocessing={preprocessing!r} does not suit {name!r}, whose own is "
            f"{builder.preprocessing!r}: leave it out"
        )
    if vocabulary is not None and not texts:
        raise ValueError(f"vocabulary is for a model of texts, and {name!r} is none")
    if texts:
        # Also where it is the module's own: data are checked against it.
        size = vocabulary.size if vocabulary else _default(builder, "vocabulary_size")
        arguments = {"vocabulary_size": size, **arguments}
    shape = checked_shape(name, builder, input_shape)
    num_classes = builder.num_classes if num_classes is None else num_classes
    num_classes = whole_number("num_classes", num_classes)
    head = _head(builder, arguments)
    module = builder.module(num_classes=num_classes, **arguments)
    spec = ModelSpec(
        name=name,
        input_shape=shape,
        num_classes=num_classes if head else 0,
        arguments=arguments,
        preprocessing=preprocessing,
        resize=builder.resize,
        label_names=tuple(label_names),
        paper=builder.paper,
        min_size=builder.min_size,
        cam_layer=getattr(module, "cam_layer", builder.cam_layer),
        head=head,
        task=builder.task,
        positions=getattr(module, "positions", 0),
        vocabulary=vocabulary,
    )
    return module, spec


def _default(builder: Builder, argument: str) -> Any:
    return builder.module.__dataclass_fields__[argument].default


def _head(builder: Builder, arguments: dict[str, Any]) -> tuple[str, ...]:
    """Names of the layers that make logits of features."""
    if arguments.get("until") is not None:  # a prefix of the net
        return ()
    if builder.task == "positions":
        return position_layers(arguments.get("positions", len(builder.head)))
    if arguments.get("include_top", True):
        return builder.head
    units = arguments.get("classifier")
    return () if units is None else classifier_layers(units)

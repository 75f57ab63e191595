"""Models by name."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from flax import linen

from cnnjax import paths
from cnnjax.checks import check_input_shape, whole_number
from cnnjax.data import Vocabulary
from cnnjax.download import DownloadError
from cnnjax.models import imagenet
from cnnjax.models.backbone import classifier_layers
from cnnjax.models.builder import Builder, check_arguments, checked_shape, plain
from cnnjax.models.captcha import Captcha, position_layers
from cnnjax.models.inception import InceptionV3
from cnnjax.models.mobilenet import ALPHAS, MobileNet
from cnnjax.models.model import Model
from cnnjax.models.pretrained import with_weights
from cnnjax.models.resnet import ResNet50
from cnnjax.models.separable import SeparableConvnet, SeparableTwin
from cnnjax.models.series import SeriesConv1D, SeriesGRU, SeriesWindows
from cnnjax.models.small import (
    MLP,
    CatsConvnet,
    CifarDeep,
    CifarPlain,
    LayersWalk,
    LeNet,
    MnistConvnet,
    SimpleConvNet,
)
from cnnjax.models.spec import TOKENS, ModelSpec
from cnnjax.models.text import CELLS, ImdbConv1D, ImdbGRU
from cnnjax.models.vgg import VGG16, VGG19
from cnnjax.models.xception import Xception

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


def create_model(
    name: str,
    *,
    input_shape: tuple[int, ...] | None = None,
    num_classes: int | None = None,
    label_names: tuple[str, ...] = (),
    preprocessing: str | None = None,
    vocabulary: Vocabulary | None = None,
    weights: str | Path | None = None,
    allow_partial: bool = False,
    allow_other_activations: bool = False,
    seed: int = 0,
    **arguments: Any,
) -> Model:
    """Build a model, with random parameters or those of a file.

    Args:
        name: one of `cnnjax list`: mlp, mnist_convnet, lenet, simple_convnet, cifar_plain,
            cifar_deep, cats_convnet, separable_convnet, separable_twin, layers_walk, series_conv1d,
            series_gru, series_windows, captcha, imdb_conv1d, imdb_gru, vgg16, vgg19, resnet50,
            inception_v3, xception, mobilenet.
        input_shape: (H, W, C), of series (T, C), of tokens (T,); None takes the model's default.
        num_classes: size of the output, >= 1; 1 is a single logit of two classes; None takes the
            model's default (the last shape of `cnnjax summary NAME`).
        label_names: one name per class, kept with the model.
        preprocessing: from pixels in [0, 255] to inputs: "unit" (x / 255), "tf" (to [-1, 1]),
            "caffe" (BGR less the mean), "torch", or "none" for data that is normalised already;
            None takes the model's own.
        vocabulary: of a model of texts: which word has which number, as its data have it; kept with
            the model, which then takes texts in `predict`.
        weights: None for random parameters from the seed; "imagenet" for the published ones, which
            are downloaded once; or the path of a Keras file (.weights.h5, .h5, .keras), .npz or
            .safetensors. The layers of the head that do not fit, because num_classes or
            include_top differ, get random parameters, and a warning says so.
        allow_partial: take what the file has and list the rest in a warning, instead of an error.
        allow_other_activations: take weights of a file whose configuration has other activations
            than the model, with a warning instead of an error.
        seed: of the parameters, in [0, 2^32).
        arguments: of the module: `units=(1024, 512)` and `dropout` for mlp; for cats_convnet
            `dropout` and `pooling`; for cifar_deep `downsampling` and `pooling`; for mnist_convnet
            `head`, `downsampling`, `activation` ("relu", "sigmoid", "tanh") and `pooling` (None
            flattens the last map, "avg" and "max" pool it over space); for the ImageNet models
            `include_top=False` (features instead of logits), then also `pooling` (None, "avg" or
            "max") and a head of one's own on the features, `classifier=(256,)` (widths of hidden
            layers; () for logits alone) with `classifier_dropout`; for mobilenet `alpha` (0.25,
            0.5, 0.75 or 1) and `dropout`; for simple_convnet `initializer` ("normal", "he" or
            "xavier"); for separable_convnet and separable_twin `initializer` ("glorot" or "he"),
            `batch_norm` and `alpha` (1, 2, ... times as many filters), for the former also `stem`
            ("separable" or "full"); for layers_walk `activation` ("relu", "sigmoid", "tanh"),
            `first_pool` and `until`, the last layer of a prefix of the net; for captcha
            `positions`, `filters` and `dropout`; for series_conv1d `filters`, `dilations` and
            `kernel_size`; for series_gru `units` and `values_per_step`; for series_windows
            `filters`, `window` and `units`; for imdb_conv1d and imdb_gru `vocabulary_size` and
            `embedding_size`, for the latter also `cell` ("gru" or "lstm") and `units`.

    Returns:
        A Model. Its call takes preprocessed NHWC float32 and returns logits.

    Raises:
        ValueError: for an unknown name or argument (with the nearest ones), a shape that does not
            fit, or weights of another model.
        DownloadError: if the published weights cannot be had.

    >>> import cnnjax as cj
    >>> model = cj.create_model("mnist_convnet")
    >>> cj.summary(model).parameters
    93322
    """
    if input_shape is not None:
        check_input_shape(input_shape)
    module, spec = build(
        name,
        input_shape=input_shape,
        num_classes=num_classes,
        label_names=label_names,
        preprocessing=preprocessing,
        vocabulary=vocabulary,
        **arguments,
    )
    if weights is None:
        return Model.initialise(module, spec, seed)
    file = weights
    if weights == "imagenet":
        file = imagenet.weight_file(name, BUILDERS[name].release, spec)
        with contextlib.suppress(DownloadError):  # a file put there by hand serves without names
            imagenet.class_names()
    elif isinstance(weights, str) and not Path(weights).suffix and not Path(weights).exists():
        raise ValueError(f"weights must be None, 'imagenet' or the path of a file, got {weights!r}")
    return with_weights(
        module,
        spec,
        Path(file),
        seed=seed,
        allow_partial=allow_partial,
        allow_other_activations=allow_other_activations,
    )


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
        raise ValueError(f"there is no model {name!r}. {paths.suggest(name, BUILDERS, 'models')}")
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

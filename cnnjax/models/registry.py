"""Models by name."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flax import linen

from cnnjax import paths
from cnnjax.download import DownloadError
from cnnjax.models import imagenet
from cnnjax.models.backbone import POOLINGS, classifier_layers
from cnnjax.models.imagenet import Release
from cnnjax.models.inception import InceptionV3
from cnnjax.models.mobilenet import ALPHAS, MobileNet
from cnnjax.models.model import Model
from cnnjax.models.pretrained import with_weights
from cnnjax.models.resnet import ResNet50
from cnnjax.models.small import (
    MLP,
    CatsConvnet,
    CifarDeep,
    CifarPlain,
    LayersWalk,
    LeNet,
    MnistConvnet,
)
from cnnjax.models.spec import ModelSpec
from cnnjax.models.vgg import VGG16, VGG19
from cnnjax.models.xception import Xception


@dataclass(frozen=True)
class Builder:
    """A module class with its defaults.

    Args:
        module: of the model.
        input_shape: (H, W, C) where none is asked for.
        min_size: smallest height and width.
        num_classes: where none are asked for.
        preprocessing, cam_layer, head, paper: as in `ModelSpec`.
        release: the published ImageNet weights; None where there are none.
        choices: arguments that only take certain values.
    """

    module: type[linen.Module]
    input_shape: tuple[int, int, int]
    min_size: int
    paper: str = ""
    num_classes: int = 10
    preprocessing: str = "unit"
    cam_layer: str = ""
    head: tuple[str, ...] = ()
    release: Release | None = None
    choices: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    @property
    def description(self) -> str:
        """The first line of the module's docstring."""
        return (inspect.getdoc(self.module) or "").split("\n")[0]

    @property
    def arguments(self) -> list[str]:
        """Names of the module's own arguments."""
        return [f for f in self.module.__dataclass_fields__ if f not in _NOT_ARGUMENTS]


_NOT_ARGUMENTS = ("num_classes", "parent", "name")

_LENET = "LeCun et al. 1998, Gradient-based learning applied to document recognition"
_VGG = "Simonyan & Zisserman 2015, Very deep convolutional networks for large-scale recognition"
_RESNET = "He et al. 2016, Deep residual learning for image recognition"
_INCEPTION = "Szegedy et al. 2016, Rethinking the Inception architecture for computer vision"
_XCEPTION = "Chollet 2017, Xception: deep learning with depthwise separable convolutions"
_MOBILENET = "Howard et al. 2017, MobileNets: efficient convolutional neural networks"

BUILDERS: dict[str, Builder] = {
    "mlp": Builder(MLP, (28, 28, 1), 1, head=("logits",)),
    "mnist_convnet": Builder(MnistConvnet, (28, 28, 1), 18, cam_layer="conv3", head=("logits",)),
    "lenet": Builder(LeNet, (28, 28, 1), 4, _LENET, cam_layer="conv2", head=("logits",)),
    "cifar_plain": Builder(CifarPlain, (32, 32, 3), 2, cam_layer="conv1", head=("logits",)),
    "cifar_deep": Builder(CifarDeep, (32, 32, 3), 8, cam_layer="conv4", head=("logits",)),
    "cats_convnet": Builder(
        CatsConvnet, (150, 150, 3), 46, num_classes=1, cam_layer="conv4", head=("logits",)
    ),
    "layers_walk": Builder(LayersWalk, (128, 128, 3), 38, num_classes=8, head=("dense",)),
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
    input_shape: tuple[int, int, int] | None = None,
    num_classes: int | None = None,
    label_names: tuple[str, ...] = (),
    preprocessing: str | None = None,
    weights: str | Path | None = None,
    allow_partial: bool = False,
    seed: int = 0,
    **arguments: Any,
) -> Model:
    """Build a model, with random parameters or those of a file.

    Args:
        name: one of `cnnjax list`: mlp, mnist_convnet, lenet, cifar_plain, cifar_deep,
            layers_walk, vgg16, vgg19, resnet50, inception_v3, xception, mobilenet.
        input_shape: (H, W, C); None takes the model's default.
        num_classes: size of the output, >= 1; 1 is a single logit of two classes; None takes the
            model's default, 1000 for those of ImageNet and 10 for the others.
        label_names: one name per class, kept with the model.
        preprocessing: from pixels in [0, 255] to inputs: "unit" (x / 255), "tf" (to [-1, 1]),
            "caffe" (BGR less the mean), "torch", or "none" for data that is normalised already;
            None takes the model's own.
        weights: None for random parameters from the seed; "imagenet" for the published ones, which
            are downloaded once; or the path of a Keras file (.weights.h5, .h5, .keras), .npz or
            .safetensors. The layers of the head that do not fit, because num_classes or
            include_top differ, get random parameters, and a warning says so.
        allow_partial: take what the file has and list the rest in a warning, instead of an error.
        seed: of the parameters, in [0, 2^32).
        arguments: of the module: `units=(1024, 512)` for mlp; for the ImageNet models
            `include_top=False` (features instead of logits), then also `pooling` (None, "avg" or
            "max") and a head of one's own on the features, `classifier=(256,)` (widths of hidden
            layers; () for logits alone) with `classifier_dropout`; for mobilenet `alpha` (0.25,
            0.5, 0.75 or 1); for layers_walk `activation` ("relu", "sigmoid", "tanh"), `first_pool`
            and `until`, the last layer of a prefix of the net.

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
    module, spec = build(
        name,
        input_shape=input_shape,
        num_classes=num_classes,
        label_names=label_names,
        preprocessing=preprocessing,
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
    return with_weights(module, spec, Path(file), seed=seed, allow_partial=allow_partial)


def build(
    name: str,
    *,
    input_shape: tuple[int, int, int] | None = None,
    num_classes: int | None = None,
    label_names: tuple[str, ...] = (),
    preprocessing: str | None = None,
    **arguments: Any,
) -> tuple[linen.Module, ModelSpec]:
    """The module and spec of a model, without variables; arguments as in `create_model`."""
    if name not in BUILDERS:
        raise ValueError(f"there is no model {name!r}. {paths.suggest(name, BUILDERS, 'models')}")
    builder = BUILDERS[name]
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()}
    _check_arguments(name, builder, arguments)
    shape = _checked_shape(name, builder, input_shape)
    num_classes = builder.num_classes if num_classes is None else num_classes
    num_classes = int(num_classes) if isinstance(num_classes, np.integer) else num_classes
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes must be a whole number >= 1, got {num_classes!r}")
    head = _head(builder, arguments)
    spec = ModelSpec(
        name=name,
        input_shape=shape,
        num_classes=num_classes if head else 0,
        arguments=arguments,
        preprocessing=preprocessing or builder.preprocessing,
        label_names=tuple(label_names),
        paper=builder.paper,
        min_size=builder.min_size,
        cam_layer=builder.cam_layer,
        head=head,
    )
    return builder.module(num_classes=num_classes, **arguments), spec


def _head(builder: Builder, arguments: dict[str, Any]) -> tuple[str, ...]:
    """Names of the layers that make logits of features."""
    if arguments.get("until") is not None:  # a prefix of the net
        return ()
    if arguments.get("include_top", True):
        return builder.head
    units = arguments.get("classifier")
    return () if units is None else classifier_layers(units)


def _check_arguments(name: str, builder: Builder, arguments: dict[str, Any]) -> None:
    known = builder.arguments
    for argument in arguments:
        if argument not in known:
            hint = paths.suggest(
                argument, [*known, "input_shape", "preprocessing", "seed"], "arguments"
            )
            raise ValueError(f"model {name!r} has no argument {argument!r}. {hint}")
    for argument, value in arguments.items():
        _check_type(argument, value, builder.module.__dataclass_fields__[argument])
    for argument, values in builder.choices:
        if argument in arguments and arguments[argument] not in values:
            raise ValueError(
                f"{argument} of {name!r} must be one of {', '.join(map(str, values))}, "
                f"got {arguments[argument]!r}"
            )
    pooling = arguments.get("pooling")
    if pooling not in POOLINGS:
        raise ValueError(f"pooling must be None, 'avg' or 'max', got {pooling!r}")
    if arguments.get("include_top", True):
        for argument in ("pooling", "classifier"):
            if arguments.get(argument) is not None:
                raise ValueError(
                    f"{argument}={arguments[argument]!r} is for a model with include_top=False"
                )
    if arguments.get("classifier_dropout") and arguments.get("classifier") is None:
        raise ValueError(
            f"classifier_dropout={arguments['classifier_dropout']!r} is for a model with a "
            "classifier, e.g. classifier=(256,)"
        )


def _check_type(argument: str, value: Any, field: dataclasses.Field) -> None:
    """A value of another type than the argument's would fail deep inside, or not at all."""
    default, annotation = field.default, str(field.type)
    if value is None and annotation.endswith("| None"):
        return
    if isinstance(default, bool):
        fits, wanted = isinstance(value, bool), "True or False"
    elif annotation.startswith("tuple"):
        fits = isinstance(value, tuple) and all(isinstance(n, int) and n >= 1 for n in value)
        wanted = "whole numbers >= 1, e.g. (64, 32)"
    elif argument.endswith("dropout"):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        fits, wanted = number and 0 <= value < 1, "a number in [0, 1)"
    elif isinstance(default, float):
        fits, wanted = isinstance(value, int | float), "a number"
    else:
        return
    if not fits:
        raise ValueError(f"{argument} must be {wanted}, got {value!r}")


def _checked_shape(
    name: str, builder: Builder, shape: tuple[int, int, int] | None
) -> tuple[int, int, int]:
    if shape is None:
        return builder.input_shape
    if not isinstance(shape, Sequence):
        raise ValueError(f"input_shape must be (height, width, channels), got {shape!r}")
    shape = tuple(int(n) if isinstance(n, np.integer) else n for n in shape)  # type: ignore[assignment]
    if len(shape) != 3 or not all(isinstance(n, int) and n >= 1 for n in shape):
        raise ValueError(f"input_shape must be (height, width, channels), got {shape!r}")
    if min(shape[:2]) < builder.min_size:
        raise ValueError(
            f"input_shape={tuple(shape)} is too small for {name!r}: at least "
            f"{builder.min_size}x{builder.min_size} is needed"
        )
    return (shape[0], shape[1], shape[2])

"""Make a model by its name."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import pkgutil
from pathlib import Path
from typing import Any

from cnnjax.core.checks import check_input_shape
from cnnjax.core.download_job import DownloadError
from cnnjax.core.hub import PREFIX, hub_file, hub_place
from cnnjax.data import Vocabulary
from cnnjax.models import imagenet, zoo
from cnnjax.models.builder import build
from cnnjax.models.model import Model
from cnnjax.models.pretrained import hub_config
from cnnjax.models.pretrained.fill import with_weights
from cnnjax.models.pretrained.recognition import recognised
from cnnjax.models.registry import BUILDERS
from cnnjax.models.spec import ModelSpec
from cnnjax.task import Preprocessing, Task
from cnnjax.weights import StoredWeights, read_weights

for _family in pkgutil.iter_modules(zoo.__path__):  # whose modules register themselves
    importlib.import_module(f"{zoo.__name__}.{_family.name}")

# Of a repository on a hub, where no file is named: what Hugging Face's libraries write, and `push`.
HUB_FILES = ("model.safetensors", "weights.safetensors", "pytorch_model.bin", "model.weights.h5")


def create_model(
    name: str,
    *,
    input_shape: tuple[int | None, ...] | None = None,
    num_classes: int | None = None,
    label_names: tuple[str, ...] = (),
    preprocessing: Preprocessing | None = None,
    vocabulary: Vocabulary | None = None,
    task: str | Task | None = None,
    weights: str | Path | None = None,
    allow_partial: bool = False,
    allow_other_activations: bool = False,
    seed: int = 0,
    **arguments: Any,
) -> Model:
    """Build a model, with random parameters or those of a file.

    Args:
        name: one of `cnnjax list`, or one that `register` was given.
        input_shape: (H, W, C), of series (T, C), of tokens (T,); None takes the model's default.
            None as a height, width or length is any, as in `Model.from_module`.
        num_classes: size of the output, >= 1; 1 is a single logit of two classes; None takes the
            model's default (the last shape of `cnnjax summary NAME`).
        label_names: one name per class, kept with the model.
        preprocessing: from pixels in [0, 255] to inputs: "unit" (x / 255), "tf" (to [-1, 1]),
            "tf128" (x / 128 - 1), "caffe" (BGR less the mean), "torch", or "none" for data that is
            normalised already; or a function or `cj.Inputs` of your own; None takes the model's
            own.
        vocabulary: of a model of texts: which word has which number, as its data have it; kept with
            the model, which then takes texts in `predict`.
        task: what the outputs mean, as in `Model.from_module`, e.g. "multilabel" for logits of
            labels of which any may hold; None takes the model's own, mostly "classes".
        weights: None for random parameters from the seed; "imagenet" for the published ones, which
            are downloaded once; or the path of a Keras file (.weights.h5, .h5, .keras), a PyTorch
            one of tensors (.pth, .pt), .npz or .safetensors. PyTorch's names are recognised by the
            family's table, which chooses its arguments and preprocessing where you name neither;
            a line on stderr says so. Or "hf://owner/name", with "@REVISION" and "/FILE" where it
            is not the main one, which is cached, and whose commit `spec.weights` keeps. The layers
            of the head that do not fit, because num_classes or
            include_top differ, get random parameters, and a warning says so.
        allow_partial: take what the file has and list the rest in a warning, instead of an error.
        allow_other_activations: take weights of a file whose configuration has other activations
            than the model, with a warning instead of an error.
        seed: of the parameters, in [0, 2^32).
        arguments: of the module, e.g. `units=(1024, 512)` of mlp or `alpha=0.25` of mobilenet;
            `help(cj.models.BUILDERS["mlp"].module)` documents them. The ImageNet models have
            `include_top=False` (features instead of logits), then also `pooling` (None, "avg" or
            "max") and a head of one's own on the features, `classifier=(256,)` (widths of hidden
            layers; () for logits alone) with `classifier_dropout`.

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
    asked: dict[str, Any] = {
        "input_shape": input_shape,
        "num_classes": num_classes,
        "label_names": label_names,
        "preprocessing": preprocessing,
        "vocabulary": vocabulary,
        "task": task,
        **arguments,
    }
    module, spec = build(name, **asked)
    if weights is None:
        return Model.initialise(module, spec, seed)
    stored = _read(weights, name, spec)
    if stored.torch:
        module, spec, stored = recognised(stored, name, asked)
    return with_weights(
        module,
        spec,
        stored,
        seed=seed,
        allow_partial=allow_partial,
        allow_other_activations=allow_other_activations,
    )


def _read(weights: Any, name: str, spec: ModelSpec) -> StoredWeights:
    """The weights that are asked for, of a file, a hub or ImageNet."""
    if isinstance(weights, str) and weights.startswith(PREFIX):
        file, place = hub_file(hub_place(weights), HUB_FILES)
        return dataclasses.replace(
            read_weights(file), label=str(place), config=hub_config.read(place)
        )
    if weights == "imagenet":
        return read_weights(_published(name, spec))
    if isinstance(weights, str | Path) and (Path(weights).suffix or Path(weights).exists()):
        return read_weights(weights)
    raise ValueError(f"weights must be None, 'imagenet' or the path of a file, got {weights!r}")


def _published(name: str, spec: ModelSpec) -> Path:
    """The file of ImageNet's weights, with the names of its classes in the cache."""
    arguments = spec.arguments or {}
    if arguments.get("origin") == "torch":
        raise ValueError(
            "weights='imagenet' are those of Keras, for origin='keras', got origin='torch': leave "
            "it out, or give a file of torchvision or timm"
        )
    release = BUILDERS[name].release
    file = imagenet.weight_file(name, release(arguments) if callable(release) else release, spec)
    with contextlib.suppress(DownloadError):  # a file put there by hand serves without names
        imagenet.class_names()
    return file

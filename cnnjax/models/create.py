"""Make a model by its name."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from pathlib import Path
from typing import Any

from cnnjax.core.checks import check_input_shape
from cnnjax.core.download_job import DownloadError
from cnnjax.data import Vocabulary
from cnnjax.models import imagenet, zoo
from cnnjax.models.builder import build
from cnnjax.models.model import Model
from cnnjax.models.pretrained.fill import with_weights
from cnnjax.models.pretrained.recognition import recognised
from cnnjax.models.registry import BUILDERS
from cnnjax.task import Preprocessing, Task
from cnnjax.weights import read_weights

for _family in pkgutil.iter_modules(zoo.__path__):  # whose modules register themselves
    importlib.import_module(f"{zoo.__name__}.{_family.name}")


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
            a line on stderr says so. The layers of the head that do not fit, because num_classes or
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
    file = weights
    if weights == "imagenet":
        release = BUILDERS[name].release
        published = release(spec.arguments or {}) if callable(release) else release
        file = imagenet.weight_file(name, published, spec)
        with contextlib.suppress(DownloadError):  # a file put there by hand serves without names
            imagenet.class_names()
    elif not isinstance(weights, str | Path) or not (
        Path(weights).suffix or Path(weights).exists()
    ):
        raise ValueError(f"weights must be None, 'imagenet' or the path of a file, got {weights!r}")
    stored = read_weights(file)
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

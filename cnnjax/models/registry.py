"""Models by name."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
from flax import linen

from cnnjax import paths
from cnnjax.models.model import Model
from cnnjax.models.small import MLP, CifarDeep, CifarPlain, LeNet, MnistConvnet
from cnnjax.models.spec import ModelSpec


@dataclass(frozen=True)
class Builder:
    """A module class with its defaults."""

    module: type[linen.Module]
    input_shape: tuple[int, int, int]
    min_size: int
    paper: str = ""

    @property
    def description(self) -> str:
        """The first line of the module's docstring."""
        return (inspect.getdoc(self.module) or "").split("\n")[0]


_NOT_ARGUMENTS = ("num_classes", "parent", "name")

_LENET = "LeCun et al. 1998, Gradient-based learning applied to document recognition"

BUILDERS: dict[str, Builder] = {
    "mlp": Builder(MLP, (28, 28, 1), 1),
    "mnist_convnet": Builder(MnistConvnet, (28, 28, 1), 18),
    "lenet": Builder(LeNet, (28, 28, 1), 4, _LENET),
    "cifar_plain": Builder(CifarPlain, (32, 32, 3), 2),
    "cifar_deep": Builder(CifarDeep, (32, 32, 3), 8),
}


def create_model(
    name: str,
    *,
    input_shape: tuple[int, int, int] | None = None,
    num_classes: int = 10,
    label_names: tuple[str, ...] = (),
    preprocessing: str = "unit",
    weights: None = None,
    seed: int = 0,
    **arguments: Any,
) -> Model:
    """Build a model with random parameters.

    Args:
        name: one of `cnnjax list`: mlp, mnist_convnet, lenet, cifar_plain, cifar_deep.
        input_shape: (H, W, C); None takes the model's default.
        num_classes: size of the output, >= 1; 1 is a single logit of two classes.
        label_names: one name per class, kept with the model.
        preprocessing: from pixels in [0, 255] to inputs: "unit" (x / 255), or "none" for data that
            is normalised already.
        weights: None, random parameters from the seed. To load a saved model: `cj.load`.
        seed: of the parameters, in [0, 2^32).
        arguments: of the module, e.g. `units=(1024, 512)` for mlp.

    Returns:
        A Model. Its call takes preprocessed NHWC float32 and returns logits.

    Raises:
        ValueError: for an unknown name or argument (with the nearest ones), or a shape that does
            not fit.

    >>> import cnnjax as cj
    >>> model = cj.create_model("mnist_convnet")
    >>> cj.summary(model).parameters
    93322
    """
    if name not in BUILDERS:
        raise ValueError(f"there is no model {name!r}. {paths.suggest(name, BUILDERS, 'models')}")
    if weights is not None:
        raise ValueError(
            f"weights must be None for {name!r}, got {weights!r}: no weights are published for it; "
            "a model that cj.save wrote is loaded by cj.load(directory)"
        )
    builder = BUILDERS[name]
    shape = _checked_shape(name, builder, input_shape)
    num_classes = int(num_classes) if isinstance(num_classes, np.integer) else num_classes
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes must be a whole number >= 1, got {num_classes!r}")
    known = [f for f in builder.module.__dataclass_fields__ if f not in _NOT_ARGUMENTS]
    for argument in arguments:
        if argument not in known:
            hint = paths.suggest(
                argument, [*known, "input_shape", "preprocessing", "seed"], "arguments"
            )
            raise ValueError(f"model {name!r} has no argument {argument!r}. {hint}")
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()}
    spec = ModelSpec(
        name=name,
        input_shape=shape,
        num_classes=num_classes,
        arguments=arguments,
        preprocessing=preprocessing,
        label_names=tuple(label_names),
        paper=builder.paper,
    )
    return Model.initialise(builder.module(num_classes=num_classes, **arguments), spec, seed)


def _checked_shape(
    name: str, builder: Builder, shape: tuple[int, int, int] | None
) -> tuple[int, int, int]:
    if shape is None:
        return builder.input_shape
    shape = tuple(int(n) if isinstance(n, np.integer) else n for n in shape)  # type: ignore[assignment]
    if len(shape) != 3 or not all(isinstance(n, int) and n >= 1 for n in shape):
        raise ValueError(f"input_shape must be (height, width, channels), got {shape!r}")
    if min(shape[:2]) < builder.min_size:
        raise ValueError(
            f"input_shape={tuple(shape)} is too small for {name!r}: at least "
            f"{builder.min_size}x{builder.min_size} is needed"
        )
    return (shape[0], shape[1], shape[2])

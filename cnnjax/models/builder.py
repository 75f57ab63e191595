"""What the registry knows of a model, and the checks of what is asked of it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flax import linen

from cnnjax.core.checks import LARGEST
from cnnjax.core.text import suggest
from cnnjax.models.zoo.backbone import POOLINGS

_NOT_ARGUMENTS = ("num_classes", "parent", "name")


@dataclass(frozen=True)
class Builder:
    """A module class with its defaults.

    Args:
        module: of the model.
        input_shape: (H, W, C), of series (T, C), of tokens (T,), where none is asked for.
        min_size: smallest height and width, or length.
        num_classes: where none are asked for.
        preprocessing, cam_layer, head, paper, task, resize: as in `ModelSpec`.
        release: the published ImageNet weights; None where there are none.
        choices: arguments that only take certain values.
    """

    module: type[linen.Module]
    input_shape: tuple[int, ...]
    min_size: int
    paper: str = ""
    num_classes: int = 10
    preprocessing: str = "unit"
    cam_layer: str = ""
    head: tuple[str, ...] = ()
    release: Release | None = None
    choices: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    task: str = "classes"
    resize: str = "crop"

    @property
    def description(self) -> str:
        """The first line of the module's docstring."""
        return (inspect.getdoc(self.module) or "").split("\n")[0]

    @property
    def arguments(self) -> list[str]:
        """Names of the module's own arguments."""
        return [f for f in self.module.__dataclass_fields__ if f not in _NOT_ARGUMENTS]


def plain(value: Any) -> Any:
    """An argument as a record can hold it: numbers of NumPy as Python's, lists as tuples."""
    if isinstance(value, list | tuple):
        return tuple(plain(one) for one in value)
    return value.item() if isinstance(value, np.generic) else value


def check_arguments(name: str, builder: Builder, arguments: dict[str, Any]) -> None:
    """Whether a model has these arguments and may have these values.

    Raises:
        ValueError: for those that it has not or may not have.
    """
    known = builder.arguments
    for argument in arguments:
        if argument not in known:
            hint = suggest(argument, [*known, "input_shape", "preprocessing", "seed"], "arguments")
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
    if "include_top" in known and arguments.get("include_top", True):
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
        fits = isinstance(value, tuple) and all(_is_count(n) for n in value)
        wanted = "whole numbers >= 1, e.g. (64, 32)"
    elif argument.endswith("dropout"):
        fits, wanted = _is_number(value) and 0 <= value < 1, "a number in [0, 1)"
    elif isinstance(default, float):
        fits, wanted = _is_number(value), "a number"
    elif isinstance(default, int):
        fits, wanted = _is_count(value), "a whole number >= 1"
    else:
        return
    if not fits:
        raise ValueError(f"{argument} must be {wanted}, got {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def checked_shape(name: str, builder: Builder, shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape of the inputs that is asked for, or the builder's own.

    Raises:
        ValueError: for one that the model cannot have.
    """
    if shape is None:
        return builder.input_shape
    axes = {3: "height, width, channels", 2: "length, channels", 1: "length,"}
    wanted = f"input_shape must be ({axes[len(builder.input_shape)]})"
    if not isinstance(shape, Sequence):
        raise ValueError(f"{wanted}, got {shape!r}")
    shape = tuple(int(n) if isinstance(n, np.integer) else n for n in shape)
    whole = all(isinstance(n, int) and n >= 1 for n in shape)
    if len(shape) != len(builder.input_shape) or not whole:
        raise ValueError(f"{wanted}, got {shape!r}")
    space = shape if len(shape) == 1 else shape[:-1]
    if max(shape) > LARGEST:
        raise ValueError(f"input_shape must be of numbers up to {LARGEST}, got {shape!r}")
    if min(space) < builder.min_size:
        least = "x".join([str(builder.min_size)] * len(space))
        raise ValueError(
            f"input_shape={shape} is too small for {name!r}: at least {least} is needed"
        )
    return shape


@dataclass(frozen=True)
class Release:
    """Published weights of a model.

    Args:
        files: (path below `HOST`, MD5 or None where none is published), with and without the top.
            "{alpha}" and "{size}" stand for those of the model.
    """

    files: tuple[tuple[str, str | None], tuple[str, str | None]]

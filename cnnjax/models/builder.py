"""A registered model's module and spec, after the checks of what is asked of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from flax import linen

from cnnjax.core.checks import LARGEST, whole_number
from cnnjax.core.habits import TO_MODEL, refusal
from cnnjax.core.text import suggest
from cnnjax.data import Vocabulary
from cnnjax.models.any_size import check_any_size, check_preprocessing
from cnnjax.models.backbone import POOLINGS, classifier_layers
from cnnjax.models.registry import BUILDERS, Builder
from cnnjax.models.spec import ModelSpec, output_facts
from cnnjax.models.validation import output_shape
from cnnjax.task import Preprocessing, Task, as_inputs, as_task

# Of which the arguments of a module tell all sizes.
_USUAL = (("N", "K"), ("N", "P", "K"))


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
            offered = [*known, "input_shape", "preprocessing", "seed"]
            raise ValueError(refusal(f"model {name!r}", argument, offered, TO_MODEL))
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
    elif argument.endswith(("dropout", "stochastic_depth")):
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


def checked_shape(
    name: str, builder: Builder, shape: tuple[int | None, ...] | None
) -> tuple[int | None, ...]:
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
    sizes = [n for n in shape if n is not None]
    whole = all(isinstance(n, int) and n >= 1 for n in sizes)
    if len(shape) != len(builder.input_shape) or not whole:
        raise ValueError(f"{wanted}, got {shape!r}")
    space = shape if len(shape) == 1 else shape[:-1]
    if max(sizes, default=0) > LARGEST:
        raise ValueError(f"input_shape must be of numbers up to {LARGEST}, got {shape!r}")
    if any(n is not None and n < builder.min_size for n in space):
        least = "x".join([str(builder.min_size)] * len(space))
        raise ValueError(
            f"input_shape={shape} is too small for {name!r}: at least {least} is needed"
        )
    return shape


def build(
    name: str,
    *,
    input_shape: tuple[int | None, ...] | None = None,
    num_classes: int | None = None,
    label_names: tuple[str, ...] = (),
    preprocessing: Preprocessing | None = None,
    vocabulary: Vocabulary | None = None,
    task: str | Task | None = None,
    **arguments: Any,
) -> tuple[linen.Module, ModelSpec]:
    """The module and spec of a model, without variables; arguments as in `create_model`."""
    if name not in BUILDERS:
        raise ValueError(f"there is no model {name!r}. {suggest(name, BUILDERS, 'models')}")
    builder = BUILDERS[name]
    arguments = {k: plain(v) for k, v in arguments.items()}
    check_arguments(name, builder, arguments)
    preprocessing = preprocessing or builder.preprocessing
    texts = as_inputs(builder.preprocessing).tokens
    if texts != as_inputs(preprocessing).tokens:
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
    module = builder.module(num_classes=num_classes, **arguments)
    head = _head(builder, module, arguments)
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
        task=as_task(task or builder.task),
        positions=getattr(module, "positions", 0),
        vocabulary=vocabulary,
    )
    check_preprocessing(spec)
    if spec.takes_any_size:
        check_any_size(module, spec)
    if head and (spec.task.outputs not in _USUAL or spec.task != as_task(builder.task)):
        facts = output_facts(spec.task, output_shape(module, spec))
        spec = dataclasses.replace(spec, **facts)
    return module, spec


def _default(builder: Builder, argument: str) -> Any:
    return builder.module.__dataclass_fields__[argument].default


def _head(builder: Builder, module: linen.Module, arguments: dict[str, Any]) -> tuple[str, ...]:
    """Names of the layers that make logits of features; a module may know better."""
    if arguments.get("until") is not None:  # a prefix of the net
        return ()
    if hasattr(module, "head_layers"):
        return tuple(module.head_layers)
    if arguments.get("include_top", True):
        return builder.head
    units = arguments.get("classifier")
    return () if units is None else classifier_layers(units)

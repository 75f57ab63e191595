"""The registry of models: what is known of each by its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from flax import linen

from cnnjax.core.text import suggest
from cnnjax.models.torch_names import TorchNames
from cnnjax.task import Task

_NOT_ARGUMENTS = ("num_classes", "parent", "name")

Net = TypeVar("Net", bound=type[linen.Module])
File = tuple[str, str | None]


@dataclass(frozen=True)
class Release:
    """Published ImageNet weights of a model.

    Args:
        top, without_top: (path below `imagenet.HOST` or a whole address, its MD5 or SHA-256, the
            first digits of the SHA-256, or None where none is published). "{alpha}" and "{size}"
            stand for those of the model.
        sizes: heights and widths for which there are files of their own, 224 among them.
    """

    top: File
    without_top: File
    sizes: tuple[int, ...] = ()

    @classmethod
    def of_keras(cls, name: str, top: str, without_top: str, folder: str = "") -> Release:
        """Files called as most of Keras' are, with their MD5, in a folder of their name."""
        stem = f"{folder or name}/{name}_weights_tf_dim_ordering_tf_kernels"
        return cls((f"{stem}.h5", top), (f"{stem}_notop.h5", without_top))

    @classmethod
    def of_torchvision(cls, name: str) -> Release:
        """A file with the top, "resnet18-f37072fd", which ends with digits of its SHA-256."""
        file = (f"https://download.pytorch.org/models/{name}.pth", name.rpartition("-")[2])
        return cls(file, file)


@dataclass(frozen=True)
class Builder:
    """A module class with its defaults; see `register`."""

    module: type[linen.Module]
    input_shape: tuple[int, ...]
    min_size: int = 1
    paper: str = ""
    num_classes: int = 10
    preprocessing: str = "unit"
    cam_layer: str = ""
    head: tuple[str, ...] = ()
    release: Release | Callable[[Mapping[str, Any]], Release] | None = None
    choices: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    task: str | Task = "classes"
    resize: str = "crop"
    year: int | None = None
    foreign: tuple[TorchNames, ...] = ()
    published: Mapping[str, float] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """The first line of the module's docstring."""
        return (inspect.getdoc(self.module) or "").split("\n")[0]

    @property
    def arguments(self) -> list[str]:
        """Names of the module's own arguments."""
        return [f for f in self.module.__dataclass_fields__ if f not in _NOT_ARGUMENTS]


BUILDERS: dict[str, Builder] = {}


def register(name: str, input_shape: tuple[int, ...], **defaults: Any) -> Callable[[Net], Net]:
    """Decorator: make a Linen module a model by name, for `create_model` and all commands.

    Args:
        name: of the model.
        input_shape: (H, W, C), of series (T, C), of tokens (T,), where none is asked for.
        defaults: `min_size`, the smallest height and width, or length; `num_classes` where none
            are asked for; `preprocessing`, `cam_layer`, `head`, `paper`, `task`, `resize` as in
            `ModelSpec`; `release`, the published ImageNet weights, or a function of the
            arguments that were given that returns them; `choices`, arguments that only
            take certain values, as ((argument, values), ...); `year` of the paper; `foreign`, what
            PyTorch libraries call its layers; `published`, the top-1 accuracy on ImageNet in per
            cent as published with the weights, {"keras": 74.9, "torchvision": 76.13}.

    Raises:
        ValueError: if another module has the name; for an unknown setting.

    >>> @register("one_dense_layer", (8, 8, 1), head=("logits",))
    ... class OneDenseLayer(linen.Module):
    ...     num_classes: int = 10
    ...     @linen.compact
    ...     def __call__(self, x):
    ...         return linen.Dense(self.num_classes, name="logits")(x.reshape(len(x), -1))
    >>> BUILDERS.pop("one_dense_layer").arguments
    []
    """

    known = [one.name for one in fields(Builder) if one.name not in ("module", "input_shape")]
    for setting in defaults:
        if setting not in known:
            hint = suggest(setting, known, "settings")
            raise ValueError(f"register has no setting {setting!r}. {hint}")

    def registered(module: Net) -> Net:
        earlier = BUILDERS.get(name)
        if earlier and earlier.module.__qualname__ != module.__qualname__:
            raise ValueError(
                f"the model {name!r} is {earlier.module.__module__}.{earlier.module.__qualname__} "
                "already: give this one another name"
            )
        BUILDERS[name] = Builder(module, input_shape, **defaults)
        return module

    return registered

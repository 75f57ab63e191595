"""The registry of the methods that explain a classification of images by heatmaps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from jax import Array

from cnnjax.core.text import suggest
from cnnjax.explain.targets import Target
from cnnjax.models import Model

# (model, images [N, H, W, C], target) -> heatmaps [N, H, W], or [N, K, H, W], in [0, 1].
Heatmaps: TypeAlias = Callable[[Model, Array, Target], Array]

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Method:
    """A way to explain which pixels speak for a class.

    Args:
        function: (model, images, target) -> what `maps` takes; with the layer before the target
            where it is `at_layer`.
        at_layer: whether it looks at one layer of the model.
        lines: whether its maps are made of lines and not of areas, so that they are drawn in grey.
        randomised: whether the sanity check of `plot.draw_sanity` takes it of several.
        on_request: whether it is taken only by name, since it takes a forward pass for each of
            hundreds of masks.
        maps: makes heatmaps [N, H, W] in [0, 1], or [N, K, H, W], of what the function returns;
            None where it does.
    """

    function: Callable[..., Any]
    at_layer: bool = False
    lines: bool = False
    randomised: bool = False
    on_request: bool = False
    maps: Callable[[Array], Array] | None = None

    @property
    def place(self) -> tuple[bool, bool]:
        """Where it stands among others: those at a layer are first, then those of lines."""
        return not self.at_layer, not self.lines

    def at(self, layer: str | None) -> Heatmaps:
        """The method's heatmaps, at a layer where it looks at one; None takes the model's own."""

        def heatmaps(model: Model, images: Array, target: Target) -> Array:
            where = (layer,) if self.at_layer else ()
            attributions: Array = self.function(model, images, *where, target)
            return attributions if self.maps is None else self.maps(attributions)

        return heatmaps


# By name, in the order in which they are drawn: that of `Method.place`, then of registration.
METHODS: dict[str, Method] = {}


def method(**settings: Any) -> Callable[[_Function], _Function]:
    """Decorator: a function of (model, images, target) is a method of explanation, by its name.

    Args:
        settings: of `Method`.

    Raises:
        ValueError: for a name that another method has.

    >>> @method(lines=True)
    ... def brightness(model, images, target=None):
    ...     return images.mean(-1)
    >>> list(methods_at(None, ["brightness"]))
    ['brightness']
    >>> del METHODS["brightness"]
    """

    def register(function: _Function) -> _Function:
        name = function.__name__
        if name in METHODS:
            raise ValueError(f"there is a method {name!r} already: give the function another name")
        methods = {**METHODS, name: Method(function, **settings)}
        ordered = sorted(methods.items(), key=lambda item: item[1].place)
        METHODS.clear()
        METHODS.update(ordered)
        return function

    return register


def methods_at(layer: str | None, names: Sequence[str] | None = None) -> dict[str, Heatmaps]:
    """Methods by name, those of the class activation maps at a layer.

    Args:
        layer: of the model; None takes its default.
        names: of `METHODS`; None takes all but those that are for request.

    Raises:
        ValueError: for an unknown name; offers the nearest.

    >>> list(methods_at("conv2", ["grad_cam", "saliency"]))
    ['grad_cam', 'saliency']
    """
    if names is None:
        names = [name for name, one in METHODS.items() if not one.on_request]
    for name in names:
        if name not in METHODS:
            raise ValueError(f"{name!r} is no method. {suggest(name, METHODS, 'methods')}")
    return {name: METHODS[name].at(layer) for name in names}

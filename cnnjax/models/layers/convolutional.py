"""A net up to one of its layers, with a head of convolutions behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flax import linen
from jax import Array

from cnnjax.models import taps
from cnnjax.models.modules import train_kwargs


@dataclass(frozen=True)
class Part:
    """A layer of the new head, made anew at every call.

    Args:
        kind: its class.
        arguments: (name, value) of its fields, its name among them.
    """

    kind: type[linen.Module]
    arguments: tuple[tuple[str, Any], ...]

    def __call__(self) -> linen.Module:
        """The layer, inside a compact module."""
        return self.kind(**dict(self.arguments))


class FullyConvolutional(linen.Module):
    """A net up to one of its layers, and a head of convolutions behind it.

    Args:
        net: the classifier whose layers come before the head.
        cut: name of the layer that ended its maps (flatten or a global pooling); what stands there
            in its place and after it is `head`.
        head: what makes class maps of the last map.
        train_arguments: the net's switches to training, where they have no usual name.

    Parameters: those of `net` before the cut, by the same names, and those of the head.
    Call: [N, H, W, C] -> logits [N, H', W', num_classes].
    """

    net: linen.Module
    cut: str
    head: tuple[Part, ...]
    train_arguments: tuple[str, ...] = ()

    def setup(self) -> None:
        """Let the net's layers keep their names: "conv1", not "net/conv1"."""
        linen.share_scope(self, self.net)

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, H', W', num_classes]."""
        x = self._maps(inputs, train)
        for part in self.head:
            layer = part()
            x = layer(x, **train_kwargs(layer, train=train))
        return x

    def _maps(self, inputs: Array, train: bool) -> Array:
        """What the net gives to the layer `cut`; that layer and those after it are not called."""

        def watch(visit: taps.Visit) -> Any:
            if visit.path == self.cut:  # the kernels behind it do not fit a larger image
                raise taps.Stop(visit.args[0])
            return visit.proceed()

        try:
            with taps.watched(watch):
                self.net(inputs, **train_kwargs(self.net, self.train_arguments, train=train))
        except taps.Stop as stop:
            maps: Array = stop.value
            return maps
        raise RuntimeError(f"{type(self.net).__name__} did not call its layer {self.cut!r}")

"""PyTorch's names of a family's layers, as the family declares them beside its net."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

# {their layer: ours}, or pairs of patterns that make it.
LayerNames = tuple[tuple[str, str], ...] | Callable[[Mapping[str, Any]], Mapping[str, str]]

_NUMBER = re.compile(r"\{(\w+)([+-]\d+)?\}")


@dataclass(frozen=True)
class TorchNames:
    """What a PyTorch library calls the layers of a family, and what its weights need.

    Args:
        source: of the names: "torchvision" or "timm".
        layers: pairs of patterns (theirs, ours) with numbers in braces, which ours may shift:
            ("layer{stage}.{block}.conv{n}", "conv{stage+1}_block{block+1}_{n}_conv"); the first
            pattern that fits a layer's whole name gives ours. Ours may also name one weight of a
            layer: ("block{n}.pointwise", "block{n}_sepconv/pointwise_kernel"). Where a family is
            irregular, a function of the module's arguments that returns {theirs: ours}.
        arguments: of the module, under which it computes as theirs does, e.g. {"origin": "torch"}.
        preprocessing: of the images, as those weights need it.
        crop: share of the resized image's side that is cut from its middle, in (0, 1].
        model: name of the model in their library; "" where it is the same as here.
        unused: patterns (as of files: "AuxLogits.*") of arrays that play no part in evaluation.
    """

    source: str
    layers: LayerNames
    arguments: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: str = "torch"
    crop: float = 0.875
    model: str = ""
    unused: tuple[str, ...] = ()

    def ours(self, theirs: Iterable[str], arguments: Mapping[str, Any]) -> dict[str, str]:
        """Our names of layers, of those that have one.

        Args:
            theirs: names of layers as in their files, e.g. "layer1.0.conv1".
            arguments: of our module, all of them.

        >>> pairs = (("layer{stage}.{block}.conv{n}", "conv{stage+1}_block{block+1}_{n}_conv"),)
        >>> TorchNames("torchvision", pairs).ours(["layer1.0.conv2", "fc"], {})
        {'layer1.0.conv2': 'conv2_block1_2_conv'}
        """
        if callable(self.layers):
            table = self.layers(arguments)
            return {name: table[name] for name in theirs if name in table}
        patterns = [(_pattern(theirs), ours) for theirs, ours in self.layers]
        named = {}
        for name in theirs:
            for pattern, ours in patterns:
                if match := pattern.fullmatch(name):
                    named[name] = _filled(ours, match.groupdict())
                    break
        return named

    def is_unused(self, key: str) -> bool:
        """Whether an array plays no part in evaluation."""
        return any(fnmatchcase(key, pattern) for pattern in self.unused)


def _pattern(text: str) -> re.Pattern[str]:
    """A pattern with numbers in braces as an expression with groups of their names."""
    parts, end, known = [], 0, set()
    for brace in _NUMBER.finditer(text):
        parts.append(re.escape(text[end : brace.start()]))
        name = brace[1]
        parts.append(f"(?P={name})" if name in known else rf"(?P<{name}>\d+)")
        known.add(name)
        end = brace.end()
    return re.compile("".join([*parts, re.escape(text[end:])]))


def _filled(text: str, numbers: Mapping[str, str]) -> str:
    """A pattern with its braces replaced by numbers, shifted as they say."""
    return _NUMBER.sub(lambda brace: str(int(numbers[brace[1]]) + int(brace[2] or 0)), text)

"""PyTorch libraries' names of the layers in inverted residual blocks, which follow from the parts.

A part is our names of a convolution and its normalisation, or of the two convolutions of a gate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Part = tuple[str, str]

# The part of that name is a gate.
GATE = "gate"

_TIMM_LAYERS = {3: ("conv_pw", "conv_dw", "conv_pwl"), 2: ("conv_dw", "conv_pw"), 1: ("conv",)}
_TIMM_GATE, _TORCHVISION_GATE = ("se.conv_reduce", "se.conv_expand"), ("fc1", "fc2")


def torchvision_block(block: str, parts: Mapping[str, Part]) -> dict[str, str]:
    """{torchvision's name: ours}: parts are numbered, and the layers in them.

    >>> torchvision_block("features.1.block", {"expand": ("a", "a_bn"), "gate": ("b", "c")})
    {'features.1.block.0.0': 'a', 'features.1.block.0.1': 'a_bn', \
'features.1.block.1.fc1': 'b', 'features.1.block.1.fc2': 'c'}
    """
    names: dict[str, str] = {}
    for place, (kind, part) in enumerate(parts.items()):
        theirs = _TORCHVISION_GATE if kind == GATE else ("0", "1")
        names |= {f"{block}.{place}.{one}": ours for one, ours in zip(theirs, part, strict=True)}
    return names


def timm_block(
    block: str, parts: Mapping[str, Part], layers: Sequence[str] | None = None
) -> dict[str, str]:
    """{timm's name: ours}.

    Args:
        block: their name of it.
        parts: our names.
        layers: their names of the convolutions; None takes those of depthwise blocks.

    >>> timm_block("blocks.0.0", {"depthwise": ("a", "a_bn"), "project": ("b", "b_bn")})
    {'blocks.0.0.conv_dw': 'a', 'blocks.0.0.bn1': 'a_bn', \
'blocks.0.0.conv_pw': 'b', 'blocks.0.0.bn2': 'b_bn'}
    """
    gate = parts.get(GATE, ())
    names = {f"{block}.{one}": ours for one, ours in zip(_TIMM_GATE, gate, strict=bool(gate))}
    others = [part for kind, part in parts.items() if kind != GATE]
    layers = layers or _TIMM_LAYERS[len(others)]
    for number, (layer, (conv, norm)) in enumerate(zip(layers, others, strict=True), start=1):
        names = {**names, f"{block}.{layer}": conv, f"{block}.bn{number}": norm}
    return names

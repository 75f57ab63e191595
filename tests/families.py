"""Of the registered models one of each family, for tests to which every net is seconds."""

import pytest

from cnnjax.models import BUILDERS

# Of ImageNet's nets; the layers of all others are these nets' or have tests of their own.
SWEPT = ("alexnet", "inception_v3", "mobilenet", "resnet18", "vgg16", "xception")


def representatives() -> list[str]:
    """The first of the models of ImageNet in each file of the zoo, and all others."""
    families: dict[str, str] = {}
    for name, builder in BUILDERS.items():
        of_imagenet = builder.num_classes == 1000
        families.setdefault(builder.module.__module__ if of_imagenet else name, name)
    return list(families.values())


def marked(names: list[str], *slow: str, quick: tuple[str, ...] | None = None) -> list:
    """Names as parameters of a test.

    Args:
        names: of models.
        slow: which of `SWEPT` are swept by hand, too, as all other nets of ImageNet are.
        quick: which are swept by default, the others thoroughly; None leaves that to the test.
    """
    parameters = []
    for name in names:
        by_hand = BUILDERS[name].num_classes == 1000 and (name not in SWEPT or name in slow)
        marks = [pytest.mark.slow] if by_hand else []
        if quick is not None and not by_hand and name not in quick:
            marks = [pytest.mark.thorough]
        parameters.append(pytest.param(name, marks=marks))
    return parameters

"""Of the registered models one of each family, for tests to which every net is seconds."""

from cnnjax.models import BUILDERS


def representatives() -> list[str]:
    """The first of the models of ImageNet in each file of the zoo, and all others."""
    families: dict[str, str] = {}
    for name, builder in BUILDERS.items():
        of_imagenet = builder.num_classes == 1000
        families.setdefault(builder.module.__module__ if of_imagenet else name, name)
    return list(families.values())

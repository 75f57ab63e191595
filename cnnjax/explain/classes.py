"""What a model takes for a class: images that make its logit large, found by gradient ascent."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jax import Array

from cnnjax.core import rng
from cnnjax.explain.ascent import Patterns, check_ascent, climb
from cnnjax.explain.class_numbers import any_hold, class_numbers
from cnnjax.explain.filters import DeadFilters, describe_dead
from cnnjax.explain.inputs import check_images
from cnnjax.explain.scores import Score, class_scores, output_scores
from cnnjax.explain.targets import check_whole
from cnnjax.models import Model
from cnnjax.models.modules import Static, Variables, forward


def class_patterns(
    model: Model,
    classes: Sequence[int | str],
    steps: int = 256,
    seed: int = 0,
    recipe: str = "fourier",
) -> np.ndarray:
    """Images that a model takes for a class, one a class (Simonyan et al. 2013, arXiv:1312.6034).

    The ascent of `filter_patterns`, with the logit of a class in the place of a filter's output
    and at the model's own size: the softmax's gradient would rather push down the other classes.
    Such an image shows what the model looks for, not what the class looks like, and a confident
    answer to it is no evidence that the model is right about photos.

    Args:
        model: with a head, for square images.
        classes: numbers, or names of `model.spec.label_names`, at least one. With one logit, 1 (or
            the second name) is the logit and 0 (or the first name) its negative. Of several labels
            or values they are outputs.
        steps: of the ascent, >= 1.
        seed: of the noise at the beginning, in [0, 2^32).
        recipe: of `filter_patterns`. "classic" begins at grey pixels without preprocessing, so it
            suits models that take pixels of about that range.

    Returns:
        float32 [K, size, size, C] in [0, 1], with the model's own size and channels.

    Raises:
        ValueError: for a model without classes or whose images are not square, a class out of
            range or unknown, or another recipe.

    Warns:
        DeadFilters: names the classes whose gradient is zero.

    >>> import cnnjax as cj
    >>> model = cj.create_model("mnist_convnet")
    >>> class_patterns(model, [3, 7], steps=2, recipe="classic").shape
    (2, 28, 28, 1)
    """
    found = find_class_patterns(model, classes, steps, seed, recipe)
    if found.dead:
        text = describe_dead(model.spec.name, found.dead, "class")
        warnings.warn(DeadFilters(text), stacklevel=2)
    return found.images


def find_class_patterns(
    model: Model,
    classes: Sequence[int | str],
    steps: int = 256,
    seed: int = 0,
    recipe: str = "fourier",
) -> Patterns:
    """`class_patterns` with the numbers of the classes, and the dead ones instead of a warning."""
    check_images(model.spec)
    check_whole(model.spec)
    check_ascent(recipe, steps)
    height, width, _ = model.spec.sample_shape
    if height != width:
        raise ValueError(
            f"{model.spec.name} takes images of {height}x{width}: patterns of classes are square"
        )
    if isinstance(classes, str) or not len(classes):
        raise ValueError(f"classes must be a list of at least one class, got {classes!r}")
    numbers = np.asarray(class_numbers(model, classes, len(classes), "classes")).tolist()
    key = rng.stream(seed, "class_patterns")
    score = output_scores if any_hold(model.spec) else class_scores
    return climb(model, _Logit(model.static, score), numbers, height, steps, key, recipe)


@dataclass(frozen=True)
class _Logit:
    """Of each input the logit of its class, [N, 1, 1, 1]."""

    static: Static
    score: Score

    def __call__(self, variables: Variables, inputs: Array, labels: Array) -> Array:
        outputs = forward(self.static, variables, inputs)
        return self.score(outputs, labels).reshape(-1, 1, 1, 1)

"""Are the labels of an image that was changed still true?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from cnnjax.augment.config import AugmentConfig
from cnnjax.task import Task

# What stands elsewhere in an image after them; mixup leaves every pixel in its place.
_MOVING = (
    "width_shift",
    "height_shift",
    "horizontal_flip",
    "vertical_flip",
    "crop_padding",
    "rotation",
    "shear",
    "zoom",
    "cutmix",
)


def check_labels_stay_true(
    augment: AugmentConfig | Callable | None,
    task: Task,
    label_shape: Sequence[int],
    image_shape: Sequence[int],
) -> None:
    """Refuse what moves an image whose labels name places in it, since they do not move with it.

    Labels name places where there is one at each of several positions, or one a pixel. What a
    function of the caller's own does is not known: that it fits the labels is up to the caller.

    Args:
        augment: settings; None and functions pass.
        task: of the model.
        label_shape: of one example's label.
        image_shape: (H, W, C).

    Raises:
        ValueError: naming the settings that move the image.
    """
    if not isinstance(augment, AugmentConfig):
        return
    still = AugmentConfig()
    moving = [
        f"{name}={value!r}"
        for name in _MOVING
        if (value := getattr(augment, name)) not in (getattr(still, name), (1, 1))
    ]
    places = _places(task, label_shape, image_shape)
    if moving and places:
        raise ValueError(
            f"augment with {', '.join(moving)} moves the image, but its label is {places}, which "
            "does not move with it: leave out what moves, or give a function of your own, "
            "(key, image) -> image, under which the labels stay true"
        )


def _places(task: Task, label_shape: Sequence[int], image_shape: Sequence[int]) -> str:
    """What in an image the labels name; "" where they are of the whole image."""
    pixels = math.prod(image_shape[:2])
    if task.has_positions:
        return "a class at each of several positions"
    if len(label_shape) > 1:
        return f"a value at each of {'x'.join(map(str, label_shape))} places"
    if not task.of_classes and math.prod(label_shape) in (pixels, pixels * image_shape[2]):
        return "a value of each pixel"
    return ""

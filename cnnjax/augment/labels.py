"""The labels of an image that was changed: those of pixels move with it, are others still true?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from cnnjax.augment.augment import apart
from cnnjax.augment.config import AugmentConfig
from cnnjax.augment.named import Named
from cnnjax.augment.parameters import draw
from cnnjax.augment.sequences import Chain
from cnnjax.augment.transforms import transform_labels
from cnnjax.core import rng
from cnnjax.task import JointTask, Task

# What stands elsewhere in an image after them; mixup leaves every pixel in its place.
_MOVING = (
    "width_shift",
    "height_shift",
    "horizontal_flip",
    "vertical_flip",
    "crop_padding",
    "resized_crop",
    "rotation",
    "shear",
    "zoom",
    "rand_augment",
    "cutmix",
)


def moved_labels(
    augment: AugmentConfig | Callable, which: tuple[Array, Array, Array], labels: Any, task: Task
) -> Any:
    """The labels of a task after augmentation, of which only those of pixels move.

    Args:
        augment: as in `for_batch`.
        which: its seed_key, epoch and index.
        labels: of the batch; {name: labels} of several outputs.
        task: of the model.
    """
    if isinstance(task, JointTask):
        return {name: moved_labels(augment, which, labels[name], part) for name, part in task.parts}
    return move_labels(augment, *which, labels, task.ignored) if task.has_pixels else labels


def move_labels(
    augment: AugmentConfig | Callable,
    seed_key: Array,
    epoch: Array,
    index: Array,
    labels: Array,
    ignored: int | None,
) -> Array:
    """Move the labels of pixels as `for_batch` moves the images; other arguments as there.

    Args:
        labels: [N, H, W] or [N, H, W, K], of any dtype.
        ignored: label of what comes in from beyond the borders where fill_mode is "constant".

    Returns:
        The same shape; int32 of whole numbers, which hold -1.
    """
    if jnp.issubdtype(labels.dtype, jnp.integer):
        labels = labels.astype(jnp.int32)

    def one(example: Array, label: Array) -> Array:
        return _moved(augment, rng.at(seed_key, epoch, example), label, ignored)

    return apart(augment, epoch, jax.vmap(one), index, labels)


def _moved(
    augment: AugmentConfig | Callable, key: Array, labels: Array, ignored: int | None
) -> Array:
    """The labels of one image; what a function of the caller's own does is the caller's matter."""
    if isinstance(augment, Chain):
        for number, part in enumerate(augment.parts):
            labels = _moved(part, rng.at(key, number), labels, ignored)
    elif isinstance(augment, AugmentConfig):
        parameters = draw(augment, key, (*labels.shape[:2], 1))
        labels = transform_labels(augment, labels, parameters, ignored)
    return labels


def check_labels_stay_true(
    augment: AugmentConfig | Callable | None,
    task: Task,
    label_shape: Sequence[int],
    image_shape: Sequence[int],
) -> None:
    """Refuse what moves an image whose labels name places in it, where they do not move with it.

    Labels name places where there is one at each of several positions, or one a pixel; of a task
    with a label a pixel they move, but for cutmix. What a function of the caller's own does is not
    known: that it fits the labels is up to the caller.

    Args:
        augment: settings, or a chain of them; None and functions pass.
        task: of the model.
        label_shape: of one example's label.
        image_shape: (H, W, C); {name: shape} of several inputs.

    Raises:
        ValueError: naming the settings that move the image.
    """
    if isinstance(augment, Chain):
        for part in augment.parts:
            check_labels_stay_true(part, task, label_shape, image_shape)
    if not isinstance(augment, AugmentConfig | Named):
        return
    if isinstance(task, JointTask):
        shapes: Any = label_shape
        for name, one in task.parts:
            check_labels_stay_true(augment, one, shapes[name], image_shape)
        return
    if isinstance(augment, Named):
        _check_named(augment, task, label_shape, image_shape)
        return
    moving = _moving(augment)
    if task.has_pixels and tuple(label_shape[:2]) == tuple(image_shape[:2]):
        _check_moved(augment, moving, task)
        return
    places = _places(task, label_shape, image_shape)
    if moving and places:
        raise ValueError(
            f"augment with {', '.join(moving.values())} moves the image, but its label is "
            f"{places}, which does not move with it: leave out what moves, or give a function of "
            "your own, (key, image) -> image, under which the labels stay true"
        )


def _check_named(augment: Named, task: Task, label_shape: Sequence[int], shapes: Any) -> None:
    """`check_labels_stay_true` of several inputs, with none of which labels of pixels move."""
    for name, part in augment.parts:
        moving = _moving(part) if isinstance(part, AugmentConfig) else {}
        if moving and task.has_pixels:
            raise ValueError(
                f"augment with {', '.join(moving.values())} moves inputs[{name!r}], and labels of "
                "pixels move with a single input alone: leave out what moves, or give a function "
                "of your own, (key, example) -> example, under which the labels stay true"
            )
        check_labels_stay_true(part, task, label_shape, shapes[name])


def _moving(augment: AugmentConfig) -> dict[str, str]:
    """The settings that move an image, in words by name."""
    still = AugmentConfig()
    return {
        name: f"{name}={value!r}"
        for name in _MOVING
        if (value := getattr(augment, name)) not in (getattr(still, name), (1, 1))
    }


def _check_moved(augment: AugmentConfig, moving: Mapping[str, str], task: Task) -> None:
    """Refuse what the labels of pixels cannot follow."""
    if "cutmix" in moving:
        raise ValueError(
            f"augment with {moving['cutmix']} pastes boxes, and the labels of the task "
            f"{task.name!r} are of pixels: leave it out, or take mixup"
        )
    if "rand_augment" in moving:
        raise ValueError(
            f"augment with {moving['rand_augment']} turns and shears images, and the labels of the "
            f"task {task.name!r} are of pixels, which do not move with these: leave it out, or "
            "take rotation and shear, with which they do"
        )
    if moving and augment.fill_mode == "constant" and task.ignored is None:
        raise ValueError(
            "augment with fill_mode='constant' uncovers pixels, which have no label, and the task "
            f"{task.name!r} has none that counts nowhere (Task.ignored): take "
            "fill_mode='nearest', 'reflect' or 'wrap'"
        )


def _places(task: Task, label_shape: Sequence[int], image_shape: Sequence[int]) -> str:
    """What in an image the labels name; "" where they are of the whole image."""
    pixels = math.prod(size or 0 for size in image_shape[:2])  # None: which may be any
    if task.has_positions:
        return "a class at each of several positions"
    if len(label_shape) > 1:
        return f"a value at each of {'x'.join(map(str, label_shape))} places"
    if not task.of_classes and math.prod(label_shape) in (pixels, pixels * image_shape[2]):
        return "a value of each pixel"
    return ""

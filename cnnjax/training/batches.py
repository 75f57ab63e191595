"""What becomes of a batch before the model sees it: checked, augmented, preprocessed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from cnnjax import augment as augmentation
from cnnjax.augment.config import AugmentConfig
from cnnjax.core import rng
from cnnjax.core.checks import check_channels_last, shape_text
from cnnjax.core.text import suggest
from cnnjax.models import Model, ModelSpec
from cnnjax.task import Task

# What a step gets, as `make_train_step` documents it: arrays, or arrays by name, by name.
Batch = Mapping[str, Any]


def prepared(
    augment: AugmentConfig | Callable | None, model: Model, key: Array, batch: Batch
) -> dict[str, Any]:
    """A batch as an objective, or a step of the caller's, gets it.

    Args:
        augment: of the training.
        model: that is trained.
        key: uint32 data of the run's random key.
        batch: as the loader makes it.

    Returns:
        The batch with the augmented and preprocessed "inputs", the "examples" as they were, and
        the "mask" as float32 [N]; where examples are mixed, "partner_labels" and "share" [N].
    """
    spec, examples = model.spec, batch["inputs"]
    ready = {**batch, "examples": examples, "mask": masked(batch)}
    if "weights" in batch and mixes(augment):
        raise ValueError(
            "augment with mixup or cutmix mixes examples whose weights would differ: leave it out, "
            "or the weights of examples and classes"
        )
    images = examples
    if augment is not None:
        _check_augmented(augment, batch, spec.task)
        seed_key = rng.named(jax.random.wrap_key_data(key), "augment")
        which = (seed_key, batch["epoch"], batch["index"])
        images = augmentation.for_batch(augment, *which, images)
        ready["labels"] = augmentation.moved_labels(augment, which, batch["labels"], spec.task)
        if isinstance(augment, AugmentConfig) and augment.mixes:
            mixed = augmentation.mix(augment, *which, images, ready["labels"])
            images, ready["partner_labels"], ready["share"] = mixed
    if not spec.parts:
        images = images.astype(spec.input_dtype)
    ready["inputs"] = spec.preprocess(images)
    return ready


def mixes(augment: AugmentConfig | Callable | None) -> bool:
    """Whether examples of a batch are mixed with each other, labels and all."""
    return isinstance(augment, AugmentConfig) and augment.mixes


def masked(batch: Batch) -> Array:
    """A batch's mask as float32 [N]; ones where it has none."""
    mask = batch.get("mask")
    if mask is None:
        return jnp.ones(jax.tree.leaves(batch["labels"])[0].shape[0])
    return mask.astype(jnp.float32)


def check_batch(batch: Batch, spec: ModelSpec) -> None:
    """Whether a batch holds images with the channels of the model; any size may do.

    Raises:
        ValueError: if it does not, has no inputs or labels, or is no dictionary.
    """
    if not isinstance(batch, Mapping):
        raise ValueError(
            "batch must be {'inputs': array, 'labels': array, ...}, got "
            f"{type(batch).__name__}: cj.data.Loader(data, batch_size).batch(0, 0) makes one"
        )
    if missing := {"inputs", "labels"} - set(batch):
        raise ValueError(
            f"batch must hold 'inputs' and 'labels', and has no {sorted(missing)[0]!r}, but "
            f"{', '.join(map(repr, sorted(batch))) or 'nothing'}"
        )
    if not spec.takes_images:
        return
    shape, channels = jnp.shape(batch["inputs"]), spec.input_shape[2]
    check_channels_last("batch['inputs']", shape, channels, "image")
    if len(shape) != 4 or shape[3] != channels:
        raise ValueError(
            f"batch['inputs'] must be [N, H, W, {channels}], as the model takes it, got "
            f"{list(shape)}"
        )


def check_augment(augment: AugmentConfig | Callable | None, model: Model) -> None:
    """Whether an augmentation fits what a model takes and predicts.

    Raises:
        ValueError: if it does not.
    """
    spec = model.spec
    if spec.parts:
        _check_augment_of_several(augment, spec)
    elif isinstance(augment, augmentation.Named):
        raise ValueError(
            f"augment names {', '.join(name for name, _ in augment.parts)}, and {spec.name} takes "
            "a single input: give its augmentation alone"
        )
    elif isinstance(augment, AugmentConfig) and not spec.takes_images:
        raise ValueError(
            f"an Augment changes images [H, W, C], and {spec.name} takes "
            f"[{shape_text(spec.input_shape)}]: give a function (key, example) -> example, e.g. "
            "cj.augment.WordDropout(0.2) for texts or cj.augment.Jitter(0.1) for series"
        )
    elif isinstance(augment, AugmentConfig):
        augmentation.check_channels(augment, spec.input_shape[2])
    label = spec.task.label_shape(spec.output_shape)
    augmentation.check_labels_stay_true(augment, spec.task, label, spec.input_shape)


def _check_augment_of_several(augment: AugmentConfig | Callable | None, spec: ModelSpec) -> None:
    """Whether an augmentation says which of several inputs it changes."""
    images = [name for name, part in spec.parts.items() if part.takes_images]
    if isinstance(augment, AugmentConfig):
        name = images[0] if images else next(iter(spec.parts))
        raise ValueError(
            f"an Augment changes images [H, W, C], and {spec.name} takes {', '.join(spec.parts)}: "
            f"say which, augment=cj.augment.Named({{{name!r}: ...}})"
        )
    for name, part in augment.parts if isinstance(augment, augmentation.Named) else ():
        if name not in spec.parts:
            hint = suggest(name, spec.parts, "inputs")
            raise ValueError(f"augment names {name!r}, and {spec.name} has no such input. {hint}")
        if isinstance(part, AugmentConfig) and name not in images:
            raise ValueError(
                f"augment: an Augment changes images [H, W, C], and inputs[{name!r}] is "
                f"[{shape_text(spec.parts[name].input_shape)}]: give a function (key, input) -> "
                "input for it"
            )


def _check_augmented(augment: AugmentConfig | Callable, batch: Batch, task: Task) -> None:
    if "index" not in batch or "epoch" not in batch:
        raise ValueError(
            "augment needs 'index' int32 [N] and 'epoch' in the batch, from which every "
            f"example's key is made; got {', '.join(sorted(batch))}"
        )
    _check_pixels(augment, batch["inputs"])
    # A loss of the caller's may want labels of any shape.
    shapes = (jax.tree.map(lambda leaf: leaf.shape[1:], batch[k]) for k in ("labels", "inputs"))
    augmentation.check_labels_stay_true(augment, task, *shapes)


def _check_pixels(augment: Any, inputs: Any) -> None:
    """Refuse what is for grey levels, where images may be in other units."""
    if isinstance(augment, augmentation.Named):
        for name, part in augment.parts:
            _check_pixels(part, inputs[name])
    for part in augment.parts if isinstance(augment, augmentation.Chain) else ():
        _check_pixels(part, inputs)
    given = augment.rand_augment if isinstance(augment, AugmentConfig) else None
    if given is not None and inputs.dtype != jnp.uint8:
        raise ValueError(
            f"augment with rand_augment={given} is for pixels of 8 bits, and the images are "
            f"{inputs.dtype}: leave it out, or give them as uint8"
        )

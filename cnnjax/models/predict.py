"""From images to probabilities and names."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.core.checks import PIXELS, channels_first, holds_pixels, shape_text
from cnnjax.data import Dataset, Lazy, Splits, resize_image
from cnnjax.data.vocabulary import UNKNOWN
from cnnjax.models.given_files import images_of
from cnnjax.models.given_model import check_model
from cnnjax.models.model import Model
from cnnjax.models.spec import ModelSpec

_BATCH = 64


class UnknownWords(UserWarning):
    """A text without a single word that the model knows."""


def predict(
    model: Model,
    images: np.ndarray | Lazy | Sequence[np.ndarray] | Sequence[str] | Sequence[Path] | str | Path,
) -> np.ndarray:
    """Class probabilities of images, or of what else the model takes.

    Args:
        model: what to ask.
        images: the path of an image file, or a list of paths; [N, H, W, C], or a list of [H, W, C]
            of any sizes; uint8, or floating in [0, 255], or what else the model's preprocessing
            takes, also of 16 bits. Grey ones may leave out the channel. Other sizes than the
            model's are resized by `model.spec.resize`; a model of any size gets them as they are.
            For a model of texts a list of texts, or int [N, T],
            numbers of words; of series floating [N, T, C]. Of several inputs {name: these}.

    Returns:
        float32 [N, num_classes], rows that sum to 1; for a model of one logit [N, 1], the
        probability of the second class; for one of positions [N, P, num_classes]; for a dense one
        [N, H, W, num_classes]; for one of values the values, [N, num_classes]; of many labels the
        probability of each; of a Task of one's own what its activation makes; of several outputs
        {name: these}.

    Raises:
        UnreadableImage: for a file that is missing or no image.
        ValueError: for another number of channels, no pixels, or values that are none; for an empty
            text, or one that the model has no vocabulary for. A text of unknown words only is an
            `UnknownWords` warning.
    """
    check_model(model)
    if isinstance(images, Dataset | Splits):
        raise ValueError(f"images must be arrays, got {type(images).__name__}: give its .inputs")
    if model.spec.num_classes == 0:
        raise ValueError(
            f"{model.spec.name} has no head (include_top=False), so it predicts nothing: "
            "model(model.spec.preprocess(images)) gives its features"
        )
    spec = model.spec
    if spec.parts:
        by_name: Any = _predict_named(model, images)
        return by_name
    if isinstance(images, Mapping):
        raise ValueError(
            f"images must be of one array, as {spec.name} takes them, got several by name "
            f"({', '.join(map(str, images))})"
        )
    if spec.inputs.tokens and not hasattr(images, "dtype"):
        images = encode_texts(spec, images)
    if spec.takes_images:
        images = images_of(images, spec.input_shape[2])
        _check_images(images, spec)
    rows, places = [_none_of(spec.output_shape)], [np.zeros(0, int)]
    for place, batch in _batches(images, spec):
        rows.append(_answers(model, batch))
        places.append(place)
    return _in_order(rows, places)


def _predict_named(model: Model, inputs: Any) -> Any:
    """`predict` of several inputs by name."""
    parts = model.spec.parts
    if not isinstance(inputs, Mapping) or set(inputs) != set(parts):
        got = list(inputs) if isinstance(inputs, Mapping) else type(inputs).__name__
        raise ValueError(
            f"{model.spec.name} takes inputs by name, one for each of {', '.join(parts)}, got {got}"
        )
    count = len(inputs[next(iter(parts))])
    for name, one in inputs.items():
        if len(one) != count:
            raise ValueError(f"inputs[{name!r}] has {len(one)} examples, the first {count}")
    rows = [_none_of(model.spec.output_shape)]
    for start in range(0, count, _BATCH):
        batch = {}
        for name, part in parts.items():
            some = inputs[name][start : start + _BATCH]
            if part.inputs.tokens and not hasattr(some, "dtype"):
                some = encode_texts(part, some)
            batch[name] = _images(some, start, part) if part.takes_images else _arrays(some, part)
        rows.append(_answers(model, batch))
    return _in_order(rows, [np.arange(count)])


def _answers(model: Model, batch: Any) -> Any:
    """What the task makes of the outputs for a batch."""
    spec, count = model.spec, len(jax.tree.leaves(batch)[0])
    size = min(_BATCH, _power_of_two(count))  # one compiled shape whatever the number of images

    def padded(array: np.ndarray) -> Array:
        rows = np.zeros((size, *array.shape[1:]), array.dtype)
        rows[:count] = array
        return jnp.asarray(rows)

    logits = model(spec.preprocess(jax.tree.map(padded, batch), check=False))
    if hasattr(logits, "ndim") and logits.ndim != 1 + len(spec.output_shape):
        raise ValueError(
            f"{spec.name} gives class maps [N, h, w, K], and predict one answer each: take "
            "jax.nn.softmax(model(model.spec.preprocess(images)))"
        )
    made = spec.task.activation(logits)
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32)[:count], made)


def _none_of(shape: Any) -> Any:
    """The outputs of no example."""
    if isinstance(shape, Mapping):
        return {name: _none_of(one) for name, one in shape.items()}
    return np.zeros((0, *(n or 0 for n in shape)), np.float32)


def encode_texts(spec: ModelSpec, texts: Any) -> np.ndarray:
    """Texts as a model takes them.

    Args:
        spec: of a model of texts.
        texts: a list of N texts.

    Returns:
        int32 [N, T].

    Raises:
        ValueError: for an empty text, or something else than texts; for a model that has no
            vocabulary. A text of unknown words only is an `UnknownWords` warning.
    """
    if not spec.inputs.tokens:
        raise ValueError(f"{spec.name} takes no texts, but inputs {list(spec.input_shape)}")
    if spec.vocabulary is None:
        raise ValueError(
            f"{spec.name} has no vocabulary, so it takes numbers of words only: create it with "
            "vocabulary=..., that of its data"
        )
    tokens = spec.vocabulary.encode_all(texts, spec.sample_shape[0])
    strange = np.flatnonzero((tokens <= UNKNOWN).all(axis=1)).tolist()
    if strange:
        warnings.warn(
            f"of texts {strange} the model knows no word: what it says of them means nothing",
            UnknownWords,
            stacklevel=3,
        )
    return tokens


def _check_images(images: Any, spec: ModelSpec) -> None:
    """What is seen in all images together only."""
    shape: tuple[int, ...] = getattr(images, "shape", ())
    if len(shape) == 3 and shape[2] == spec.input_shape[2] == 1 and spec.sample_shape[1] > 1:
        raise ValueError(
            f"images of shape {list(shape)} are one grey image [H, W, 1], which needs a batch "
            "axis: images[None]"
        )
    channels = spec.input_shape[2]
    if len(shape) == 3 and channels > 1 and channels_first(shape, channels):
        raise ValueError(
            f"images of shape {list(shape)} are one image with its channels first, as PyTorch "
            "has it: give np.moveaxis(images, 0, -1)[None]"
        )
    if hasattr(images, "dtype") and not isinstance(images, Lazy):
        arrays = [images]
    elif isinstance(images, list | tuple):
        arrays = [np.asarray(image) for image in images]
    else:  # which may read its images one by one
        arrays = []
    floating = [a for a in arrays if a.dtype != np.uint8 and holds_pixels(a.dtype) and a.size]
    if floating and len(floating) == len(arrays):
        low, high = min(float(a.min()) for a in floating), max(float(a.max()) for a in floating)
        if low >= 0 and high <= 1:  # what else is wrong, is so of one of them
            reals = all(np.issubdtype(a.dtype, np.floating) for a in arrays)
            kind = "floating" if reals else "16-bit"
            spec.inputs.check_range(low, high, "images", kind=kind)


def _images(images: Any, start: int, spec: ModelSpec) -> np.ndarray:
    """Images of any sizes as one batch of the model's."""
    size = (spec.sample_shape[0], spec.sample_shape[1])
    checked = (_checked(np.asarray(p), i, spec) for i, p in enumerate(images, start))
    if spec.takes_any_size:
        return _of_one_size(list(checked))
    settings = spec.resize, spec.interpolation, spec.crop
    return np.stack([resize_image(image, size, *settings) for image in checked])


def _of_one_size(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images as one batch, as they are."""
    if len(sizes := {image.shape for image in images}) > 1:
        one, other = (list(size) for size in sorted(sizes)[:2])
        raise ValueError(
            f"images of several inputs must be of one size, got {one} and {other}: call predict "
            "with those of one size at a time"
        )
    return np.stack(images)


def _batches(images: Any, spec: ModelSpec) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Where the examples stand, and examples of one size each."""
    for start in range(0, len(images), _BATCH):
        some = images[start : start + _BATCH]
        if not (spec.takes_images and spec.takes_any_size):
            batch = _images(some, start, spec) if spec.takes_images else _arrays(some, spec)
            yield np.arange(start, start + len(batch)), batch
            continue
        by_size: dict[tuple[int, ...], list[int]] = {}
        checked = [_checked(np.asarray(image), i, spec) for i, image in enumerate(some, start)]
        for i, image in enumerate(checked):
            by_size.setdefault(image.shape, []).append(i)
        for group in by_size.values():
            yield start + np.array(group), np.stack([checked[i] for i in group])


def _in_order(rows: list[Any], places: list[np.ndarray]) -> Any:
    """The outputs of all examples, in the examples' order."""
    if isinstance(rows[0], Mapping):
        return {name: _in_order([row[name] for row in rows], places) for name in rows[0]}
    sizes = {row.shape[1:] for row in rows[1:]}
    if len(sizes) > 1:
        one, other = (list(size) for size in sorted(sizes)[:2])
        raise ValueError(
            f"images of several sizes have outputs of several, {one} and {other}, which are no "
            "single array: call predict with the images of one size at a time"
        )
    outputs = np.concatenate(rows[1:] or rows)
    order = np.concatenate(places)
    return outputs if (np.diff(order) == 1).all() else outputs[np.argsort(order)]


def _arrays(inputs: Any, spec: ModelSpec) -> np.ndarray:
    """Tokens or series, which have the model's shape already."""
    array = np.asarray(inputs)
    if array.ndim == 1 and spec.input_shape == (1,):  # a number for each example
        array = array[:, None]
    if not spec.takes(array.shape[1:]):
        wanted = shape_text(spec.input_shape)
        raise ValueError(f"{spec.name} takes [N, {wanted}], got shape {list(array.shape)}")
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise ValueError("the inputs hold NaN or infinity")
    if spec.inputs.tokens and array.size:
        spec.check_words(int(array.min()), int(array.max()), "the inputs")
    return array


def _checked(image: np.ndarray, index: int, spec: ModelSpec) -> np.ndarray:
    channels = spec.input_shape[2]
    image = image[..., None] if image.ndim == 2 and channels == 1 else image
    if channels_first(image.shape, channels):
        raise ValueError(
            f"images[{index}] of shape {list(image.shape)} has its channels first, as PyTorch has "
            f"them, and {spec.name} takes [H, W, {channels}]: give np.moveaxis(images, 1, -1) of a "
            "batch, np.moveaxis(image, 0, -1) of each image of a list"
        )
    if image.ndim != 3 or image.shape[2] != channels:
        raise ValueError(
            f"images[{index}] must be [H, W, {channels}], got shape {list(image.shape)}; a single "
            "image needs a batch axis: images[None]"
        )
    if image.size == 0:
        raise ValueError(f"images[{index}] of shape {list(image.shape)} has no pixels")
    fits = spec.takes(image.shape) or not spec.takes_any_size
    if not fits or min(image.shape[:2]) < (spec.min_size if spec.takes_any_size else 1):
        raise ValueError(
            f"{spec.name} takes images [{shape_text(spec.input_shape)}] of {spec.min_size} pixels "
            f"a side and more, images[{index}] is {list(image.shape)}"
        )
    if image.dtype == np.uint8:
        return image
    if not holds_pixels(image.dtype):
        raise ValueError(f"images[{index}] must be {PIXELS}, got {image.dtype}")
    if not np.isfinite(image).all():
        raise ValueError(f"images[{index}] holds NaN or infinity")
    kind = "floating" if np.issubdtype(image.dtype, np.floating) else str(image.dtype)
    low, high = float(image.min()), float(image.max())
    spec.inputs.check_range(low, high, f"images[{index}]", one=True, kind=kind)
    return image.astype(np.float32)


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()

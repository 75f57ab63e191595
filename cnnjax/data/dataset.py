"""Examples with labels in memory, mostly images, and their splits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnjax.core import rng
from cnnjax.core.checks import PIXEL_DTYPES, PIXELS, check_channels_last, flag, is_number
from cnnjax.core.html import paragraphs
from cnnjax.core.text import plain
from cnnjax.data.by_name import check_lengths, checked_inputs, named, over
from cnnjax.data.label_kinds import check_names, task_labels
from cnnjax.data.lazy import Lazy, hash_array
from cnnjax.data.stratify import check_classes, stratified_order
from cnnjax.data.strip import kind_line, strip
from cnnjax.task import JointTask, Task, any_task

if TYPE_CHECKING:
    from cnnjax.data.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled examples; make one with `from_arrays` or `load`.

    Args:
        inputs: images, uint8, uint16, int16 or float32 [N, H, W, C]; may be memory-mapped, or
            images in files that are read where they are indexed (`Lazy`). Or token ids, int32
            [N, T], or series, float32 [N, T, C]. {name: these} for a model of several inputs.
        labels: int32 [N]; or [N, P], a class at each of P positions, or [N, H, W], at each pixel;
            or float32 [N, K], values; in general what the task of a model says. {name: array} for
            a model of several outputs.
        label_names: one name per class, or () where unknown.
        name: what it is, e.g. "mnist 3.0.1 train".
        vocabulary: which word has which number, of texts; None for all else.
        weights: float32 [N], by which the losses of training examples are multiplied; None: no
            example counts more than another. Evaluation leaves them out.
    """

    inputs: Any
    labels: Any
    label_names: tuple[str, ...] = ()
    name: str = "arrays"
    vocabulary: Vocabulary | None = None
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        labels = self.labels
        return len(next(iter(labels.values())) if isinstance(labels, Mapping) else labels)

    def __repr__(self) -> str:
        return f"Dataset({plain(self.name)!r}, {len(self):,} {kind_line(self)})"

    def _repr_html_(self) -> str:
        return paragraphs(repr(self)) + strip(self)

    @property
    def input_shape(self) -> Any:
        """Of one example: (H, W, C) of images, (T,) of token ids, (T, C) of series.

        {name: shape} of several inputs.
        """
        return over(lambda array: tuple(array.shape[1:]), self.inputs)

    @property
    def holds_images(self) -> bool:
        """Whether the inputs are (H, W, C)."""
        return not isinstance(self.inputs, Mapping) and len(self.input_shape) == 3

    @property
    def parts(self) -> dict[str, Dataset]:
        """Of several inputs a data set for each, with the same labels; {} of a single one."""
        if not isinstance(self.inputs, Mapping):
            return {}
        return {
            name: replace(self, inputs=one, name=f"{self.name}, inputs[{name!r}]")
            for name, one in self.inputs.items()
        }

    @cached_property
    def arrays(self) -> dict[str, Any]:
        """What there is of every example, by the names that a batch has for it."""
        arrays = {"inputs": self.inputs, "labels": self.labels}
        return arrays if self.weights is None else {**arrays, "weights": self.weights}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of inputs, labels and weights, the first 16 digits; of files, not of pixels.

        Of texts it is that of their words, not only of the token ids.
        """
        digest = hashlib.sha256()
        if self.vocabulary is not None:
            digest.update(self.vocabulary.fingerprint.encode())
        for kind, arrays in self.arrays.items():
            for name, array in named(arrays, kind).items():
                if name != kind:
                    digest.update(name.encode())
                hash_array(digest, array)
        return digest.hexdigest()[:16]

    def subset(self, indices: np.ndarray | slice, name: str | None = None) -> Dataset:
        """The examples at the indices, in that order."""

        def rows(array: Any) -> Any:
            return array.subset(indices) if isinstance(array, Lazy) else array[indices]

        return replace(
            self,
            inputs=over(rows, self.inputs),
            labels=over(rows, self.labels),
            weights=None if self.weights is None else self.weights[indices],
            name=name or self.name,
        )

    def order(self, seed: int, name: str, stratify: bool = False) -> np.ndarray:
        """A random order of the examples.

        Args:
            seed: whole number in [0, 2^32).
            name: of the random stream.
            stratify: whether every beginning of the order has of each class its share of the
                examples, to within one.

        Returns:
            int64 [N].

        Raises:
            ValueError: to stratify labels that are no classes.
        """
        if not flag("stratify", stratify):
            return rng.permutation(len(self), seed, name)
        check_classes(self.labels, self.name)
        return stratified_order(self.labels, seed, name)

    def split(
        self, fraction: float, seed: int = 0, stratify: bool = False
    ) -> tuple[Dataset, Dataset]:
        """Set a random part aside, a pure function of length, fraction and seed.

        Args:
            fraction: of the examples for the second part, in (0, 1).
            seed: whole number in [0, 2^32).
            stratify: keep the share of every class in both parts, to within one example; the choice
                then depends on the labels, too.

        Returns:
            (the rest, the part set aside), each in its original order.

        Raises:
            ValueError: if either part would be empty, or to stratify labels that are no classes.
        """
        part = _part(len(self), fraction, lambda share: round(len(self) * share))
        order = self.order(seed, "split", stratify)
        rest, aside = np.sort(order[part:]), np.sort(order[:part])
        return (
            self.subset(rest, f"{self.name}, {100 * (1 - fraction):g} %"),
            self.subset(aside, f"{self.name}, {100 * fraction:g} % set aside"),
        )

    def split_last(self, fraction: float) -> tuple[Dataset, Dataset]:
        """Set the last part aside, of as many examples as by Keras' `validation_split`.

        Args:
            fraction: of the examples for the second part, in (0, 1).

        Returns:
            (the rest, the part set aside), each in its original order.

        Raises:
            ValueError: if either part would be empty.
        """
        count = len(self)
        # Keras rounds the other part down.
        part = _part(count, fraction, lambda share: count - int(count * (1.0 - share)))
        return (
            self.subset(slice(None, -part), f"{self.name}, the first {100 * (1 - fraction):g} %"),
            self.subset(slice(-part, None), f"{self.name}, the last {100 * fraction:g} %"),
        )


def _part(count: int, fraction: float, size: Callable[[float], int]) -> int:
    """How many of so many examples a fraction is, by its size; errors as in `Dataset.split`."""
    if not is_number(fraction):
        raise ValueError(f"fraction must be a number between 0 and 1, got {fraction!r}")
    part = size(fraction)
    if not 0 < part < count:
        remedy = "choose one between 0 and 1"
        if count < 2:
            remedy = "two are needed at least"
        elif 0 < fraction < 1:
            # Half an example less where floats round so that the largest fraction is too large.
            offers = (f"{1 - spared / count:.6g}" for spared in (1, 1.5))
            most = next(offer for offer in offers if size(float(offer)) < count)
            enough = f"{1 / count:.2g} or more" if part == 0 else f"{most} or less"
            remedy = f"{count} are too few for it, {enough} would do"
        raise ValueError(
            f"a fraction of {fraction} of {count} examples leaves one part empty: {remedy}"
        )
    return part


def from_arrays(
    images: Any,
    labels: Any,
    label_names: Sequence[str] = (),
    name: str = "arrays",
    task: str | Task | Mapping[str, str | Task] | None = None,
    weights: np.ndarray | None = None,
) -> Dataset:
    """A data set of one's own arrays, checked.

    Args:
        images: [N, H, W, C] or [N, H, W] (grey), of any number of channels; uint8, or floating in
            [0, 255]; or of other ranges, uint16, int16 or floating, for a model whose preprocessing
            is "none" or a function of your own. {name: array} of several inputs, each images
            [N, H, W, C], floating numbers of any shape, or token ids, int32 [N, T].
        labels: as `task` has them: of "classes" [N] whole numbers >= 0, or one-hot [N, K]; of
            "binary" [N], 0 and 1 or probabilities; of "multilabel" such rows [N, K]; of "values"
            numbers [N, K], or a vector [N], which becomes [N, 1]; of "positions" whole numbers
            [N, P]; of "dense" [N, H, W], -1 where a pixel counts nowhere. {name: these} of several
            outputs.
        label_names: one name per class.
        name: what to call it in records and messages.
        task: of the model, or its name; None goes by the labels: numbers [N] that are not whole are
            values, whole numbers of the images' own height and width classes of their pixels, and
            all else has to be classes. {name: task} of several outputs.
        weights: [N] finite numbers >= 0, not all zero, by which the losses of training examples are
            multiplied; None: no example counts more than another.

    Returns:
        The data set; floating images become float32.

    Raises:
        ValueError: for shapes, dtypes or values that cannot be, each named; for [N, C, H, W], as
            PyTorch has it, where 1 to 4 channels stand before two sides of 8 pixels and more.

    >>> import numpy as np
    >>> from_arrays(np.zeros((2, 8, 8), np.uint8), [0, 1]).input_shape
    (8, 8, 1)
    """
    if isinstance(images, Mapping) or isinstance(labels, Mapping):
        return _from_named(images, labels, label_names, name, task, weights)
    images, labels = np.asanyarray(images), np.asanyarray(labels)
    if len(np.shape(images)) == 0 or len(images) == 0:
        raise ValueError(f"{name}: the data set is empty")
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4:
        raise ValueError(f"{name}: images must be [N, H, W, C], got shape {list(images.shape)}")
    check_channels_last(f"{name}: images", images.shape)
    if images.dtype not in PIXEL_DTYPES:
        images = _checked_floats(images, name)
    labels = task_labels(labels, task, name, images.shape[:3])
    if len(images) != len(labels):
        raise ValueError(f"{name}: {len(images)} images but {len(labels)} labels")
    label_names = tuple(str(n) for n in label_names)
    check_names(label_names, labels, name)
    kept = None if weights is None else checked_weights(weights, len(labels), name)
    return Dataset(images, labels, label_names, name, weights=kept)


def _from_named(
    inputs: Any, labels: Any, label_names: Sequence[str], name: str, task: Any, weights: Any
) -> Dataset:
    """`from_arrays` of several inputs, or several labels."""
    if isinstance(labels, Mapping):
        tasks = any_task(task) if task is not None else None
        if tasks is not None and not isinstance(tasks, JointTask):
            raise ValueError(
                f"{name}: labels are given by name, and the task {tasks.name!r} has one array"
            )
        if tasks is not None:
            tasks.by_name(labels, f"{name}: labels")
        each = dict(tasks.parts) if tasks is not None else dict.fromkeys(labels)
        kept: Any = {
            key: task_labels(np.asanyarray(one), each[key], f"{name}: labels[{key!r}]")
            for key, one in labels.items()
        }
        if label_names:
            raise ValueError(f"{name}: label_names are for labels of one array, not by name")
    else:
        kept = task_labels(np.asanyarray(labels), task, name)
        check_names(label_names, kept, name)
    if isinstance(inputs, Mapping):
        arrays: Any = checked_inputs(inputs, name)
    else:
        arrays = from_arrays(inputs, np.zeros(len(inputs), np.int32), name=name).inputs
    names = tuple(str(n) for n in label_names)
    data = Dataset(arrays, kept, names, name)
    check_lengths(len(data), {**named(arrays, "inputs"), **named(kept, "labels")}, name)
    if weights is not None:
        data = replace(data, weights=checked_weights(weights, len(data), name))
    return data


def _checked_floats(images: np.ndarray, name: str) -> np.ndarray:
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"{name}: images must be {PIXELS}, got {images.dtype}")
    finite = np.isfinite(images).reshape(len(images), -1).all(axis=1)
    if not finite.all():
        raise ValueError(f"{name}: images[{int(np.argmin(finite))}] holds NaN or infinity")
    return images.astype(np.float32, copy=False)


def checked_weights(weights: Any, count: int, name: str) -> np.ndarray:
    """Weights of so many examples, float32 [N]; arguments and errors as in `finite_weights`.

    Raises:
        ValueError: for weights that are all zero, too.
    """
    kept = finite_weights(weights, count, name)
    if not kept.any():
        raise ValueError(f"{name}: weights are all zero, so that nothing would be trained")
    return kept


def finite_weights(weights: Any, count: int, name: str) -> np.ndarray:
    """Weights of so many examples, of a data set or a part of it, float32 [N].

    Args:
        weights: [N].
        count: N.
        name: of what they weigh, for the message.

    Raises:
        ValueError: for another shape, and for weights that are no finite numbers >= 0.
    """
    array = np.asarray(weights)
    if array.shape != (count,) or array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name}: weights must be {count} numbers, one for each example, got "
            f"{array.dtype} {list(array.shape)}"
        )
    kept = array.astype(np.float32)
    wrong = ~(np.isfinite(kept) & (kept >= 0))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise ValueError(f"{name}: weights must be finite and >= 0, weights[{at}] is {array[at]}")
    return kept

"""Examples with labels in memory, mostly images, and their splits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnjax.core import rng
from cnnjax.core.checks import check_channels_last, is_number, whole_number
from cnnjax.core.html import html_table, paragraphs
from cnnjax.core.text import plain
from cnnjax.data.label_kinds import check_names, task_labels
from cnnjax.data.pixels.file_images import FileImages
from cnnjax.data.strip import kind_line, strip
from cnnjax.task import Task

if TYPE_CHECKING:
    from cnnjax.data.vocabulary import Vocabulary

_MOST_CLASSES = 1_000_000
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled examples; make one with `from_arrays` or `load`.

    Args:
        inputs: images, uint8 or float32 [N, H, W, C]; may be memory-mapped, or images in files that
            are decoded where they are indexed. Or token ids, int32 [N, T], or series, float32
            [N, T, C].
        labels: int32 [N]; or [N, P], a class at each of P positions, or [N, H, W], at each pixel;
            or float32 [N, K], values; in general what the task of a model says.
        label_names: one name per class, or () where unknown.
        name: what it is, e.g. "mnist 3.0.1 train".
        vocabulary: which word has which number, of texts; None for all else.
    """

    inputs: np.ndarray | FileImages
    labels: np.ndarray
    label_names: tuple[str, ...] = ()
    name: str = "arrays"
    vocabulary: Vocabulary | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Dataset({plain(self.name)!r}, {len(self):,} {kind_line(self)})"

    def _repr_html_(self) -> str:
        return paragraphs(repr(self)) + strip(self)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one example: (H, W, C) of images, (T,) of token ids, (T, C) of series."""
        return self.inputs.shape[1:]

    @property
    def holds_images(self) -> bool:
        """Whether the inputs are (H, W, C)."""
        return len(self.input_shape) == 3

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of inputs and labels, the first 16 digits; of files, not of their pixels.

        Of texts it is that of their words, not only of the token ids.
        """
        digest = hashlib.sha256()
        if self.vocabulary is not None:
            digest.update(self.vocabulary.fingerprint.encode())
        arrays: list[Any] = [self.inputs, self.labels]
        if isinstance(self.inputs, FileImages):
            digest.update(self.inputs.content_hash.encode())
            arrays = [self.labels]
        for array in arrays:
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            for start in range(0, len(array), 4096):
                digest.update(np.ascontiguousarray(array[start : start + 4096]).tobytes())
        return digest.hexdigest()[:16]

    def subset(self, indices: np.ndarray | slice, name: str | None = None) -> Dataset:
        """The examples at the indices, in that order."""
        inputs: np.ndarray | FileImages
        if isinstance(self.inputs, FileImages):
            inputs = self.inputs.subset(indices)
        else:
            inputs = self.inputs[indices]
        return replace(self, inputs=inputs, labels=self.labels[indices], name=name or self.name)

    def split(self, fraction: float, seed: int = 0) -> tuple[Dataset, Dataset]:
        """Set a random part aside, a pure function of length, fraction and seed.

        Args:
            fraction: of the examples for the second part, in (0, 1).
            seed: whole number in [0, 2^32).

        Returns:
            (the rest, the part set aside), each in its original order.

        Raises:
            ValueError: if either part would be empty.
        """
        part = _part(len(self), fraction, lambda share: round(len(self) * share))
        order = rng.permutation(len(self), seed, "split")
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


@dataclass(frozen=True)
class Splits:
    """What a model is trained, selected and tested on.

    Args:
        train: to train on.
        validation: to select on, or None.
        test: to test on, or None.
        source: how `load` found the parts and what was done to them since, for records; None for
            parts of one's own.
    """

    train: Dataset
    validation: Dataset | None = None
    test: Dataset | None = None
    source: Mapping[str, Any] | None = None

    @property
    def parts(self) -> dict[str, Dataset]:
        """Those that there are, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in named.items() if part is not None}

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {len(part):,}" for name, part in self.parts.items())
        return f"Splits({counts}; {kind_line(self.train)})"

    def _repr_html_(self) -> str:
        rows = [(name, part.name, f"{len(part):,}") for name, part in self.parts.items()]
        table = html_table([("part", "data set", "examples"), *rows], "<<>")
        return paragraphs(kind_line(self.train)) + table + strip(self.train)

    def with_validation(self, fraction: float, seed: int = 0) -> Splits:
        """Set a part of the training data aside for validation.

        Args:
            fraction: of the training examples, in (0, 1).
            seed: of the choice.

        Raises:
            ValueError: if there is a validation part already, a part would be empty, or a class
                that has a name would be left without an example to train on.
        """
        self._refuse_second_validation()
        parts = self.train.split(fraction, seed)
        train, validation = self._checked(parts, f"a random part of {fraction}")
        source = self._then("with_validation", fraction, seed)
        return replace(self, train=train, validation=validation, source=source)

    def with_last_for_validation(self, fraction: float) -> Splits:
        """Set the last part of the training data aside, as Keras' `validation_split` does.

        No seed decides it: all runs are selected on the same examples. Data that go class by
        class, as those of class folders do, need `with_validation`.

        Args:
            fraction: of the training examples, in (0, 1).

        Raises:
            ValueError: as in `with_validation`.
        """
        self._refuse_second_validation()
        parts = self.train.split_last(fraction)
        train, validation = self._checked(parts, f"the last part of {fraction}")
        source = self._then("with_last_for_validation", fraction)
        return replace(self, train=train, validation=validation, source=source)

    def without_validation(self) -> Splits:
        """Without the part for validation, which takes its time at the end of every epoch."""
        if self.validation is None:
            return self
        return replace(self, validation=None, source=self._then("without_validation"))

    def with_test(self, fraction: float, seed: int = 0) -> Splits:
        """Set a part of the training data aside for testing.

        Args:
            fraction: of the training examples, in (0, 1).
            seed: of the choice.

        Raises:
            ValueError: if there is a test part already, a part would be empty, or a class that has
                a name would be left without an example to train on.
        """
        if self.test is not None:
            raise ValueError(f"there is a test part already, of {len(self.test)} examples")
        parts = self.train.split(fraction, seed)
        train, test = self._checked(parts, f"a random part of {fraction}")
        source = self._then("with_test", fraction, seed)
        return replace(self, train=train, test=test, source=source)

    def with_train_examples(self, count: int, seed: int = 0) -> Splits:
        """Train on a random part only; with one seed, smaller parts lie within larger ones.

        Args:
            count: number of training examples, in [1, number there are].
            seed: of the choice.

        Raises:
            ValueError: if there are fewer.
        """
        try:
            number = whole_number("train_examples", count)
        except ValueError:
            number = 0  # refused below, where the largest is named too
        if not 1 <= number <= len(self.train):
            raise ValueError(
                f"train_examples must be a whole number between 1 and {len(self.train)}, as many "
                f"as {self.train.name} has, got {count!r}"
            )
        chosen = np.sort(rng.permutation(len(self.train), seed, "train_examples")[:number])
        train = self.train.subset(chosen, f"{self.train.name}, {number:,} of {len(self.train):,}")
        return replace(self, train=train, source=self._then("with_train_examples", number, seed))

    def _refuse_second_validation(self) -> None:
        if self.validation is not None:
            raise ValueError(
                f"there is a validation part already, of {len(self.validation)} examples"
            )

    def _checked(self, parts: tuple[Dataset, Dataset], what: str) -> tuple[Dataset, Dataset]:
        """The training data in two parts, if every class that has a name is left in the first."""
        names, labels = self.train.label_names, self.train.labels
        classes = labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer)
        lost = np.setdiff1d(labels, parts[0].labels) if names and classes else ()
        if len(lost):
            shown = [f"{names[k]!r} (it has {(labels == k).sum()})" for k in lost[:_SHOWN]]
            more = " and more" if len(lost) > _SHOWN else ""
            raise ValueError(
                f"{self.train.name}: {what} set aside leaves no example to train on of the class "
                f"{', '.join(shown)}{more}: add examples of it, or leave it out"
            )
        return parts

    def _then(self, step: str, *arguments: float) -> Mapping[str, Any] | None:
        """The source with a step more."""
        if self.source is None:
            return None
        return {**self.source, "steps": [*self.source.get("steps", []), [step, *arguments]]}


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


def as_splits(
    data: Splits | Dataset | tuple[np.ndarray, np.ndarray], task: str | Task | None = None
) -> Splits:
    """What `fit` takes as data, as Splits.

    Args:
        data: Splits, a Dataset, or (images, labels).
        task: of the model, which says what its labels are, as in `from_arrays`.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(data, Splits):
        return data
    if isinstance(data, Dataset):
        return Splits(data)
    if isinstance(data, tuple) and len(data) == 2:
        return Splits(from_arrays(*data, task=task))
    raise ValueError(
        f"data must be Splits, a Dataset or (images, labels), got {type(data).__name__}"
    )


def with_class_names(parts: Mapping[str, Dataset]) -> Splits:
    """Parts as Splits; classes without names are called by their numbers, those of all parts.

    So their number is not a matter of which examples are set aside later.

    Args:
        parts: "train" and those of "validation" and "test" that there are, labelled with classes.

    Raises:
        ValueError: for labels of a million and more.
    """
    if not parts["train"].label_names:
        count = max(2, *(int(part.labels.max()) + 1 for part in parts.values()))
        if count > _MOST_CLASSES:
            raise ValueError(
                f"{parts['train'].name}: the largest label is {count - 1:,}, labels of classes are "
                "0, 1, 2 and so on"
            )
        names = tuple(map(str, range(count)))
        parts = {name: replace(part, label_names=names) for name, part in parts.items()}
    return Splits(parts["train"], parts.get("validation"), parts.get("test"))


def from_arrays(
    images: np.ndarray,
    labels: np.ndarray,
    label_names: Sequence[str] = (),
    name: str = "arrays",
    task: str | Task | None = None,
) -> Dataset:
    """A data set of one's own arrays, checked.

    Args:
        images: [N, H, W, C] or [N, H, W] (grey), uint8, or floating in [0, 255].
        labels: as `task` has them: of "classes" [N] whole numbers >= 0, or one-hot [N, K]; of
            "binary" [N], 0 and 1 or probabilities; of "multilabel" such rows [N, K]; of "values"
            numbers [N, K], or a vector [N], which becomes [N, 1]; of "positions" whole numbers
            [N, P]; of "dense" [N, H, W], -1 where a pixel counts nowhere.
        label_names: one name per class.
        name: what to call it in records and messages.
        task: of the model, or its name; None goes by the labels: numbers [N] that are not whole are
            values, whole numbers of the images' own height and width classes of their pixels, and
            all else has to be classes.

    Returns:
        The data set; floating images become float32.

    Raises:
        ValueError: for shapes, dtypes or values that cannot be, each named; for [N, C, H, W], as
            PyTorch has it, where 1 to 4 channels stand before two sides of 8 pixels and more.

    >>> import numpy as np
    >>> from_arrays(np.zeros((2, 8, 8), np.uint8), [0, 1]).input_shape
    (8, 8, 1)
    """
    images, labels = np.asanyarray(images), np.asanyarray(labels)
    if len(np.shape(images)) == 0 or len(images) == 0:
        raise ValueError(f"{name}: the data set is empty")
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4:
        raise ValueError(f"{name}: images must be [N, H, W, C], got shape {list(images.shape)}")
    check_channels_last(f"{name}: images", images.shape)
    if images.dtype != np.uint8:
        images = _checked_floats(images, name)
    labels = task_labels(labels, task, name, images.shape[:3])
    if len(images) != len(labels):
        raise ValueError(f"{name}: {len(images)} images but {len(labels)} labels")
    label_names = tuple(str(n) for n in label_names)
    check_names(label_names, labels, name)
    return Dataset(images, labels, label_names, name)


def _checked_floats(images: np.ndarray, name: str) -> np.ndarray:
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"{name}: images must be uint8 or floating, got {images.dtype}")
    finite = np.isfinite(images).reshape(len(images), -1).all(axis=1)
    if not finite.all():
        raise ValueError(f"{name}: images[{int(np.argmin(finite))}] holds NaN or infinity")
    return images.astype(np.float32, copy=False)


def set_aside(splits: Splits, validation: float, train_examples: int | None, seed: int) -> Splits:
    """Splits with a part for validation and so many to train on; arguments as in `load`.

    Raises:
        ValueError: for a fraction or number that cannot be.
    """
    if validation:
        if not is_number(validation):
            raise ValueError(f"validation must be a number in [0, 1), got {validation!r}")
        splits = splits.with_validation(validation, seed)
    if train_examples is not None:
        splits = splits.with_train_examples(train_examples, seed)
    return splits

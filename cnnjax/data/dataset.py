"""Examples with labels in memory, mostly images, and their splits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnjax.core import rng
from cnnjax.core.checks import flag, is_number
from cnnjax.core.html import paragraphs
from cnnjax.core.text import plain
from cnnjax.data.by_name import named, over
from cnnjax.data.lazy import Lazy, hash_array
from cnnjax.data.stratify import check_classes, stratified_order
from cnnjax.data.strip import kind_line, strip

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

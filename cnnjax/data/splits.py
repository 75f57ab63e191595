"""What a model is trained, selected and tested on, and how parts of it are set aside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.core.checks import flag, is_number, whole_number
from cnnjax.core.html import html_table, paragraphs
from cnnjax.data.dataset import Dataset
from cnnjax.data.foreign.stream import Stream
from cnnjax.data.given_arrays import from_arrays
from cnnjax.data.stratify import check_classes, dealt
from cnnjax.data.strip import kind_line, strip
from cnnjax.task import Task

_MOST_CLASSES = 1_000_000
_SHOWN = 5


@dataclass(frozen=True)
class Splits:
    """What a model is trained, selected and tested on.

    Args:
        train: to train on; this and the others may be a `Stream`, too, of which nothing can be set
            aside.
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

    @property
    def _examples(self) -> Dataset:
        """The training data, of which a part is to be set aside.

        Raises:
            ValueError: for a stream.
        """
        if isinstance(self.train, Stream):
            raise ValueError(
                f"{self.train.name} is a stream, of which nothing can be set aside: give parts of "
                "its own as cj.data.Splits(train, validation, test)"
            )
        return self.train

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {_size(part)}" for name, part in self.parts.items())
        return f"Splits({counts}; {_kind(self.train)})"

    def _repr_html_(self) -> str:
        rows = [(name, part.name, _size(part)) for name, part in self.parts.items()]
        table = html_table([("split", "data set", "examples"), *rows], "<<>")
        images = "" if isinstance(self.train, Stream) else strip(self.train)
        return paragraphs(_kind(self.train)) + table + images

    def with_validation(self, fraction: float, seed: int = 0, stratify: bool = False) -> Splits:
        """Set a part of the training data aside for validation.

        Args:
            fraction: of the training examples, in (0, 1).
            seed: of the choice.
            stratify: keep the share of every class, as in `Dataset.split`.

        Raises:
            ValueError: if there is a validation part already, a part would be empty, or a class
                that has a name would be left without an example to train on; to stratify labels
                that are no classes.
        """
        self._refuse_second_validation()
        parts = self._examples.split(fraction, seed, stratify)
        train, validation = self._checked(parts, f"a random part of {fraction}")
        source = self._then("with_validation", fraction, seed, *_if_so(stratify))
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
        parts = self._examples.split_last(fraction)
        train, validation = self._checked(parts, f"the last part of {fraction}")
        source = self._then("with_last_for_validation", fraction)
        return replace(self, train=train, validation=validation, source=source)

    def without_validation(self) -> Splits:
        """Without the part for validation, which takes its time at the end of every epoch."""
        if self.validation is None:
            return self
        return replace(self, validation=None, source=self._then("without_validation"))

    def with_test(self, fraction: float, seed: int = 0, stratify: bool = False) -> Splits:
        """Set a part of the training data aside for testing.

        Args:
            fraction, seed, stratify: as in `with_validation`.

        Raises:
            ValueError: if there is a test part already, a part would be empty, or a class that has
                a name would be left without an example to train on; to stratify labels that are no
                classes.
        """
        if self.test is not None:
            raise ValueError(f"there is a test part already, of {len(self.test)} examples")
        parts = self._examples.split(fraction, seed, stratify)
        train, test = self._checked(parts, f"a random part of {fraction}")
        source = self._then("with_test", fraction, seed, *_if_so(stratify))
        return replace(self, train=train, test=test, source=source)

    def with_train_examples(self, count: int, seed: int = 0, stratify: bool = False) -> Splits:
        """Train on a random part only; with one seed, smaller parts lie within larger ones.

        Args:
            count: number of training examples, in [1, number there are].
            seed: of the choice.
            stratify: keep the share of every class, to within one example.

        Raises:
            ValueError: if there are fewer; to stratify labels that are no classes.
        """
        try:
            number = whole_number("train_examples", count)
        except ValueError:
            number = 0  # refused below, where the largest is named too
        if not 1 <= number <= len(self._examples):
            raise ValueError(
                f"train_examples must be a whole number between 1 and {len(self.train)}, as many "
                f"as {self.train.name} has, got {count!r}"
            )
        chosen = np.sort(self._examples.order(seed, "train_examples", stratify)[:number])
        train = self._examples.subset(
            chosen, f"{self.train.name}, {number:,} of {len(self.train):,}"
        )
        source = self._then("with_train_examples", number, seed, *_if_so(stratify))
        return replace(self, train=train, source=source)

    def fold(self, number: int, folds: int, seed: int = 0, stratify: bool = False) -> Splits:
        """One of `k_fold`.

        Args:
            number: of the fold, in [0, folds).
            folds, seed, stratify: as in `k_fold`.

        Raises:
            ValueError: as `k_fold`, and for a fold that there is not.
        """
        self._refuse_second_validation()
        folds = whole_number("folds", folds, least=2)
        if folds > len(self._examples):
            raise ValueError(
                f"folds={folds} of {len(self.train)} examples of {self.train.name} leaves one "
                f"empty: choose at most {len(self.train)}"
            )
        number = whole_number("number", number, 0, folds - 1)
        if flag("stratify", stratify):
            check_classes(self._examples.labels, self.train.name)
        labels = self._examples.labels if stratify else None
        aside = dealt(labels, len(self._examples), folds, seed) == number
        title = f"{self.train.name}, fold {number + 1} of {folds}"
        parts = (
            self._examples.subset(np.flatnonzero(~aside), f"{title}, the others"),
            self._examples.subset(np.flatnonzero(aside), title),
        )
        train, validation = self._checked(parts, f"fold {number} of {folds}")
        source = self._then("fold", number, folds, seed, *_if_so(stratify))
        return replace(self, train=train, validation=validation, source=source)

    def k_fold(self, folds: int, seed: int = 0, stratify: bool = False) -> list[Splits]:
        """The training data for cross-validation: each example is once among the validation data.

        Args:
            folds: number of parts, whose sizes differ by one example at most, in [2, number of
                training examples].
            seed: of the choice.
            stratify: of every class each part has as many as another, or one more.

        Returns:
            Splits, one for each part, which is its validation data; the test data are in each.

        Raises:
            ValueError: if there is a validation part already, a part would be empty, or a class
                that has a name would be left without an example to train on; to stratify labels
                that are no classes.

        >>> import numpy as np
        >>> digits = Splits(from_arrays(np.zeros((6, 8, 8), np.uint8), [0, 1, 0, 1, 0, 1]))
        >>> [sorted(split.validation.labels.tolist()) for split in digits.k_fold(3, stratify=True)]
        [[0, 1], [0, 1], [0, 1]]
        """
        folds = whole_number("folds", folds, least=2)
        return [self.fold(number, folds, seed, stratify) for number in range(folds)]

    def _refuse_second_validation(self) -> None:
        if self.validation is not None:
            raise ValueError(
                f"there is a validation part already, of {len(self.validation)} examples"
            )

    def _checked(self, parts: tuple[Dataset, Dataset], what: str) -> tuple[Dataset, Dataset]:
        """The training data in two parts, if every class that has a name is left in the first."""
        names, labels = self.train.label_names, self.train.labels
        classes = np.ndim(labels) == 1 and np.issubdtype(labels.dtype, np.integer)
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


def _size(part: Dataset | Stream) -> str:
    """How many examples; of a stream batches, so that none is drawn for it."""
    if isinstance(part, Stream):
        return f"{part.steps_per_epoch:,} batches an epoch"
    return f"{len(part):,}"


def _kind(part: Dataset | Stream) -> str:
    return "a stream" if isinstance(part, Stream) else kind_line(part)


def _if_so(stratify: bool) -> tuple[bool, ...]:
    """What a record says of it: nothing, as ever, where it is not asked for."""
    return (True,) if stratify else ()


def as_splits(
    data: Splits | Dataset | Stream | tuple[np.ndarray, np.ndarray], task: str | Task | None = None
) -> Splits:
    """What `fit` takes as data, as Splits.

    Args:
        data: Splits, a Dataset, a Stream, or (images, labels).
        task: of the model, which says what its labels are, as in `from_arrays`.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(data, Splits):
        return data
    if isinstance(data, Dataset | Stream):
        return Splits(data)  # type: ignore[arg-type]
    if isinstance(data, tuple) and len(data) == 2:
        return Splits(from_arrays(*data, task=task))
    raise ValueError(
        f"data must be Splits, a Dataset or (images, labels), got {type(data).__name__}"
        f"{_how_to_give(data)}"
    )


def _how_to_give(data: Any) -> str:
    """A clause on how what is no data of ours becomes some; "" where that is not known."""
    if isinstance(data, str | Path):
        return ": cj.data.load(...) reads a name, folder or file"
    if isinstance(data, np.ndarray):
        return ": labels belong to it, cj.data.from_arrays(images, labels)"
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return ": cj.data.from_source(data) takes what has __len__ and __getitem__, as of PyTorch"
    if hasattr(data, "__iter__"):
        return ": cj.data.stream(lambda epoch: data, steps_per_epoch) takes what gives batches"
    return ""


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

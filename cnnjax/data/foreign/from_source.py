"""A data set of anything with a length and random access."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cnnjax.core.checks import at_least_zero
from cnnjax.data.dataset import Dataset
from cnnjax.data.foreign.named_source import read_named
from cnnjax.data.foreign.source_inputs import Pick, Source, SourceInputs, check_like, spread
from cnnjax.data.given_arrays import checked_weights, from_arrays
from cnnjax.data.label_kinds import check_names, task_labels
from cnnjax.task import Task

# Inputs of up to so many bytes are read once and kept in memory.
MEMORY = 2**30

_USUAL = {"inputs": ("image", "img"), "labels": ("label", "labels", "fine_label")}
_COMPARED = 8


def from_source(
    source: Any,
    inputs: Pick | Mapping[str, Pick] | None = None,
    labels: Pick | np.ndarray | Mapping[str, Pick | np.ndarray] | None = None,
    *,
    label_names: Sequence[str] = (),
    name: str | None = None,
    task: str | Task | Mapping[str, str | Task] | None = None,
    weights: np.ndarray | None = None,
    channels_first: bool | None = None,
    memory_budget: int = MEMORY,
    threaded: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Dataset:
    """A data set of another library's: torch, Hugging Face, grain, TFDS, or one's own class.

    All inputs are read once and kept in memory where they take no more than the budget. Where they
    take more, each is read when it is indexed, by several threads, ahead of the training step.
    Order, epochs and augmentation are cnnjax's in both cases, so that they come from the seed and
    a run can be resumed: a source that gives an example another time otherwise is refused.

    The fingerprint is that of all inputs and labels where they are in memory; else that of all
    labels and either Hugging Face's own fingerprint or of up to 64 inputs, evenly spread.

    Args:
        source: anything with `len(source)` and `source[i]`, e.g. a `torch.utils.data.Dataset`,
            `datasets.Dataset`, `grain.MapDataset` or `tfds.data_source`. Its examples are tuples or
            mappings; what is in them are images of Pillow, tensors, arrays or lists of numbers.
        inputs: key or index of an example, or a function of it; None: "image" or "img", and of a
            pair the first. What it gives is as in `Dataset`: images [H, W, C] are uint8, or
            floating in [0, 255]; grey ones of uint8 may be [H, W]. {name: key} of several inputs,
            which are kept in memory.
        labels: key, index or function likewise, or an array of all of them [N, ...], so that they
            need not be read; None: "label", and of a pair the second. {name: these} of several.
        label_names: one name per class; () takes them from the source if it has them.
        name: what to call it in records and messages; None: by the class of the source.
        task, weights: as in `from_arrays`.
        channels_first: whether images are [C, H, W], as PyTorch has them, and are to be
            transposed; None: they are not, and what looks so is refused; False: what looks so is
            not.
        memory_budget: bytes; 0 reads all inputs where they are indexed.
        threaded: False for a source that only one thread may read at a time.
        progress: told in a sentence before something takes long.

    Returns:
        The data set.

    Raises:
        ValueError: for a source without length or random access, which `stream` is for; for an
            example that cannot be read, has another shape or dtype than the first, or is another
            one each time, with its index; for labels as in `from_arrays`.

    >>> from_source([(np.zeros((8, 8), np.uint8), 1), (np.ones((8, 8), np.uint8), 0)]).input_shape
    (8, 8, 1)
    """
    name = name or type(source).__name__
    at_least_zero("memory_budget", memory_budget)
    _check_source(source, name)
    examples = Source(source, 0, 1, channels_first, threaded, name)
    if isinstance(inputs, Mapping) or isinstance(labels, Mapping):
        named = read_named(examples, inputs, labels, memory_budget, progress)
        return from_arrays(*named, label_names, name, task, weights)
    wanted = _with_keys(examples, inputs, labels)
    first, count = _first(wanted), len(source)
    known = _known_labels(wanted, labels)
    kept: np.ndarray | SourceInputs = SourceInputs(wanted, np.arange(count), first)
    if kept.nbytes <= memory_budget:
        kept = np.empty(kept.shape, kept.dtype)
    if isinstance(kept, np.ndarray) or known is None:
        if progress:
            progress(f"reading {count:,} examples of {name}")
        known = _read(wanted, first, kept, known)
    array = task_labels(known, task, name, (count, *first.shape[:2]) if first.ndim == 3 else ())
    if len(array) != count:
        raise ValueError(f"{name}: {count} examples but {len(array)} labels")
    names = tuple(map(str, label_names or _names(source, wanted.labels)))
    check_names(names, array, name)
    weighed = None if weights is None else checked_weights(weights, count, name)
    return Dataset(kept, array, names, name, weights=weighed)


def _check_source(source: Any, name: str) -> None:
    """Whether there is a length and random access."""
    if isinstance(source, Dataset):
        raise ValueError(f"{source.name} is a Dataset already: give it to cj.fit as it is")
    if isinstance(source, Mapping):
        raise ValueError(
            f"source is a mapping of {', '.join(map(repr, source))}: give one of its parts, and "
            "join them by cj.data.Splits"
        )
    count = len(source) if hasattr(type(source), "__len__") else None
    if count is None or not hasattr(type(source), "__getitem__"):
        raise ValueError(
            f"source must have a length and random access, and {type(source).__name__} has not: "
            "give what it reads from, or its batches by cj.data.stream"
        )
    if count == 0:
        raise ValueError(f"{name}: the data set is empty")
    if count >= 2**31:
        raise ValueError(f"{name} has {count} examples, as if repeated without end: leave that out")


def _with_keys(source: Source, inputs: Pick | None, labels: Any) -> Source:
    """A source with the keys that are given, or the usual ones of its first example."""
    if inputs is None or labels is None:
        example = source.example(0)
        inputs = _usual(example, 0, "inputs", source.name) if inputs is None else inputs
        labels = _usual(example, 1, "labels", source.name) if labels is None else labels
    return replace(source, inputs=inputs, labels=None if isinstance(labels, np.ndarray) else labels)


def _usual(example: Any, place: int, what: str, name: str) -> Pick:
    if isinstance(example, tuple | list) and len(example) == 2:
        return place
    there = list(example) if isinstance(example, Mapping) else []
    usual = [key for key in _USUAL[what] if key in there]
    if len(usual) != 1:
        kind = f"holds {', '.join(map(repr, there))}" if there else f"is a {type(example).__name__}"
        raise ValueError(f"{name}[0] {kind}: say by {what}= which part its {what} are")
    return usual[0]


def _first(source: Source) -> np.ndarray:
    """The first inputs; some examples are read twice, to see whether they are the same ones.

    Raises:
        ValueError: if they are not.
    """
    rows = spread(len(source.examples), _COMPARED)
    pairs = zip(rows, source.read_all(rows), source.read_all(rows), strict=True)
    first = None
    for row, one, again in pairs:
        first = one[0] if first is None else first
        check_like(first, one[0], f"{source.name}[{row}]")
        if not all(_same(*both) for both in zip(one, again, strict=True)):
            raise ValueError(
                f"{source.name}[{row}] is another one each time it is read, as by random "
                "augmentation, and could not be resumed: leave it out there, and give "
                "TrainingConfig(augment=...)"
            )
    assert first is not None  # there is an example at least
    return first


def _same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    return one is other or (one is not None and np.array_equal(one, other))  # type: ignore[arg-type]


def _known_labels(source: Source, given: Any) -> np.ndarray | None:
    """All labels, where no example has to be read for them: given, or a column of a table."""
    if isinstance(given, np.ndarray):
        return given
    examples, key = source.examples, source.labels
    table = getattr(examples, "column_names", None)
    if not isinstance(table, list) or not isinstance(key, str) or key not in table:
        return None
    if examples.format["type"] == "custom":  # a function of the caller's makes the examples
        return None
    return np.asarray(examples.with_format("numpy")[key][:])


def _read(
    source: Source, first: np.ndarray, kept: np.ndarray | SourceInputs, known: np.ndarray | None
) -> np.ndarray:
    """Read all examples: inputs into an array, if there is one; returns their labels."""
    labels: list[np.ndarray] = []
    for row, (inputs, label) in enumerate(source.read_all(range(len(source.examples)))):
        check_like(first, inputs, f"{source.name}[{row}]")
        if isinstance(kept, np.ndarray):
            kept[row] = inputs
        if known is None and label is not None:
            if labels and label.shape != labels[0].shape:
                raise ValueError(
                    f"{source.name}[{row}] has a label of shape {list(label.shape)}, and the first "
                    f"example one of shape {list(labels[0].shape)}"
                )
            labels.append(label)
    return np.stack(labels) if known is None else known


def _names(source: Any, key: Any) -> Sequence[str]:
    """Names of classes, where a source has them: of Hugging Face, TFDS and torchvision."""
    described = getattr(source, "dataset_info", source)
    features = getattr(described, "features", None)
    if features is not None and isinstance(key, str) and key in dict(features.items()):
        return getattr(features[key], "names", None) or ()
    classes = getattr(source, "classes", ())
    texts = isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes)
    return classes if texts else ()

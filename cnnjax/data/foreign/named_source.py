"""Several inputs or labels by name of a source of another library, read into memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnjax.data.foreign.source_inputs import (
    Pick,
    Source,
    check_like,
    picked,
    read_in_order,
    spread,
)
from cnnjax.data.foreign.values import as_array, as_inputs

_COMPARED = 8


@dataclass(frozen=True)
class NamedSource:
    """What is wanted of each example, by what to call it in a message.

    Args:
        source: of the examples; what it picks itself is left out.
        picks: {"inputs['age']": key, index or function}.
    """

    source: Source
    picks: Mapping[str, Pick]

    @classmethod
    def of(cls, source: Source, inputs: Any, labels: Any) -> NamedSource:
        """Of arguments of `from_source`; labels that are arrays already need not be read."""
        wanted = {**_picks(inputs, "inputs"), **_picks(labels, "labels")}
        return cls(source, {k: v for k, v in wanted.items() if not isinstance(v, np.ndarray)})

    def read(self, index: int) -> dict[str, np.ndarray]:
        """What is wanted of one example.

        Raises:
            ValueError: if it cannot be read, naming it.
        """
        example, values = self.source.example(index), {}
        for what, pick in self.picks.items():
            try:
                value = picked(example, pick, what)
                values[what] = as_array(value) if what.startswith("labels") else self._input(value)
            except (ValueError, TypeError) as error:
                raise ValueError(f"{self.source.name}[{index}], {what}: {error}") from error
        return values

    def _input(self, value: Any) -> np.ndarray:
        """One input as an array; a single number has an axis."""
        array = as_array(value)
        return as_inputs(array if array.ndim else array[None], self.source.channels_first)

    def read_all(self, memory_budget: int) -> dict[str, np.ndarray]:
        """Everything, [N, ...] each.

        Args:
            memory_budget: bytes.

        Raises:
            ValueError: for examples that are not alike, or are others each time; or too large.
        """
        count, name = len(self.source.examples), self.source.name
        for row in spread(count, _COMPARED):
            again = self.read(row)
            for what, value in self.read(row).items():
                if not np.array_equal(value, again[what]):
                    raise ValueError(
                        f"{name}[{row}], {what} is another one each time it is read, as by random "
                        "augmentation: leave it out there, and give TrainingConfig(augment=...)"
                    )
        first = self.read(0)
        size = count * sum(value.nbytes for value in first.values())
        if size > memory_budget:
            raise ValueError(
                f"{name}: several inputs or labels by name are read into memory, and take "
                f"{size:,} bytes, more than memory_budget={memory_budget:,}: raise it, or give "
                "batches by cj.data.stream"
            )
        kept = {w: np.empty((count, *value.shape), value.dtype) for w, value in first.items()}
        for row, values in enumerate(read_in_order(self.read, range(count), self.source.threaded)):
            for what, value in values.items():
                check_like(first[what], value, f"{name}[{row}], {what}")
                kept[what][row] = value
        return kept


def read_named(
    source: Source,
    inputs: Any,
    labels: Any,
    memory_budget: int,
    progress: Callable[[str], None] | None,
) -> tuple[Any, Any]:
    """Inputs and labels as `from_arrays` takes them, of which one at least is by name.

    Args:
        source: of the examples.
        inputs, labels, memory_budget, progress: as in `from_source`.
    """
    if inputs is None or labels is None:
        what = "inputs" if inputs is None else "labels"
        raise ValueError(f"{source.name}: say by {what}= which part of an example its {what} are")
    if progress:
        progress(f"reading {len(source.examples):,} examples of {source.name}")
    kept = NamedSource.of(source, inputs, labels).read_all(memory_budget)
    return _gathered(inputs, "inputs", kept), _gathered(labels, "labels", kept)


def _picks(given: Any, what: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        return {what: given}
    return {f"{what}[{name!r}]": pick for name, pick in given.items()}


def _gathered(given: Any, what: str, kept: Mapping[str, np.ndarray]) -> Any:
    """What was read, in the form in which it was asked for."""
    if not isinstance(given, Mapping):
        return kept.get(what, given)
    return {name: kept.get(f"{what}[{name!r}]", pick) for name, pick in given.items()}

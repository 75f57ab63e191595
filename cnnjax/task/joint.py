"""Several outputs by name, each with a task of its own, as one task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from jax import Array

from cnnjax import metrics
from cnnjax.task.kinds import Task, as_task

Parts = tuple[tuple[str, Task], ...]


@dataclass(frozen=True)
class JointTask(Task):
    """A task of outputs {name: array} and labels {name: array}; `joint` makes one.

    Args:
        parts: names and tasks; the other fields follow from these.
    """

    parts: Parts = ()

    def count(self, outputs: Any) -> int:
        """How many classes and values all parts have together."""
        return sum(task.count(outputs[name]) for name, task in self.parts)

    def label_shape(self, outputs: Any) -> Any:
        """{name: the shape of one example's label}."""
        return {name: task.label_shape(outputs[name]) for name, task in self.parts}

    def check_labels(self, labels: Any, outputs: Any, model: str) -> None:
        """Refuse labels that a part cannot have, or of other names; arguments as in `Task`."""
        self.by_name(labels, f"labels of the model {model}")
        for name, task in self.parts:
            try:
                task.check_labels(labels[name], outputs[name], model)
            except ValueError as error:
                raise ValueError(f"labels[{name!r}]: {error}") from None

    def checked_names(self, names: Any, outputs: Any) -> dict[str, tuple[str, ...]]:
        """Names of the classes by output.

        Args:
            names: {name of an output: one name per class or value}; some may have none.
            outputs: {name: shape of one example's}.

        Raises:
            ValueError: for names of no output, and for more or fewer than it has classes.
        """
        parts = dict(self.parts)
        if not isinstance(names, Mapping) or not set(names) <= set(parts):
            raise ValueError(
                f"label_names of several outputs must be given by name, (...) for any of "
                f"{', '.join(parts)}, got {', '.join(map(str, names))}"
            )
        for name, given in names.items():
            count = parts[name].count(outputs[name])
            if len(given) != parts[name].names(count):
                raise ValueError(
                    f"label_names[{name!r}] has {len(given)} names, and the output has {count} "
                    "classes or values"
                )
        return {name: tuple(map(str, given)) for name, given in names.items()}

    def by_name(self, values: Any, what: str) -> None:
        """Refuse values that are not given by the names of the parts.

        Raises:
            ValueError: naming them.
        """
        wanted = [name for name, _ in self.parts]
        if not isinstance(values, Mapping) or set(values) != set(wanted):
            got = list(values) if isinstance(values, Mapping) else type(values).__name__
            raise ValueError(
                f"{what} must be given by name, one array for each of {', '.join(wanted)}, got "
                f"{got}"
            )


def any_task(task: str | Task | Mapping[str, str | Task]) -> Task:
    """A task, the one of that name, or several as one, as `joint` makes it of a dictionary.

    Raises:
        ValueError: as `as_task` and `joint`.
    """
    return joint(task) if isinstance(task, Mapping) else as_task(task)


def joint(tasks: Mapping[str, str | Task]) -> JointTask:
    """One task of several: the sum of their losses, and the metrics and losses of each.

    Args:
        tasks: by the name of the output.

    Returns:
        A task whose loss is the sum of those of its parts; for a weighted one give `fit` a loss of
        your own, which gets outputs and labels by name.

    Raises:
        ValueError: if there is none, for a name that is none, or an unknown task.

    >>> task = joint({"kind": "classes", "size": "values"})
    >>> task.name, list(task.metrics)[:2]
    ('kind classes, size values', ['kind_accuracy', 'size_absolute_error'])
    """
    named = {name: as_task(task) for name, task in tasks.items()}
    for name, task in named.items():
        if not isinstance(name, str) or not name.isidentifier() or isinstance(task, JointTask):
            raise ValueError(
                f"task must have a name and a task for each output, got {name!r}: {task.name!r}"
            )
    if not named:
        raise ValueError("task must have at least one output, got {}")
    parts = tuple(named.items())
    measures: dict[str, metrics.Measure] = {
        f"{name}_{metric}": _measure_of(name, measure)
        for name, task in parts
        for metric, measure in task.metrics.items()
    }
    losses = {f"{name}_loss": _Of(name, task.loss) for name, task in parts}
    return JointTask(
        ", ".join(f"{name} {task.name}" for name, task in parts),
        _Sum(tuple(losses.values())),
        {**measures, **losses},
        activation=_Each(tuple((name, task.activation) for name, task in parts)),
        decode=_Lines(parts),
        of_classes=False,
        parts=parts,
    )


@dataclass(frozen=True)
class _Of:
    """A loss or metric of one output."""

    name: str
    measure: metrics.Loss

    def __call__(self, outputs: Any, labels: Any) -> Array:
        return self.measure(outputs[self.name], labels[self.name])


@dataclass(frozen=True)
class _UpdateOf:
    """The update of a `Metric` of one output."""

    name: str
    update: Callable[[Any, Mapping[str, Any]], Any]

    def __call__(self, outputs: Any, batch: Mapping[str, Any]) -> Any:
        of_one = {**batch, "labels": batch["labels"][self.name]}
        return self.update(outputs[self.name], of_one)


def _measure_of(name: str, measure: metrics.Measure) -> metrics.Measure:
    """A metric of one output as one of all."""
    if isinstance(measure, metrics.Metric):
        return replace(measure, update=_UpdateOf(name, measure.update))
    return _Of(name, measure)


@dataclass(frozen=True)
class _Sum:
    """The sum of losses."""

    losses: tuple[_Of, ...]

    def __call__(self, outputs: Any, labels: Any) -> Any:
        return sum(loss(outputs, labels) for loss in self.losses)


@dataclass(frozen=True)
class _Each:
    """A function for each value of a dictionary."""

    functions: tuple[tuple[str, Callable[[Any], Any]], ...]

    def __call__(self, values: Any) -> Any:
        return {name: function(values[name]) for name, function in self.functions}


@dataclass(frozen=True)
class _Lines:
    """A line of text per example, from those of all parts; names of classes by the output."""

    parts: Parts

    def __call__(self, values: Any, label_names: Any = ()) -> list[str]:
        names = label_names if isinstance(label_names, Mapping) else {}
        each = [
            [f"{name}: {line}" for line in task.decode(values[name], names.get(name, ()))]
            for name, task in self.parts
        ]
        return ["  ".join(lines) for lines in zip(*each, strict=True)]

"""What a metric is: sums over examples, made on the device, and what they come to on the host."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from cnnjax.core.text import suggest
from cnnjax.metrics.losses import Loss

# What the loop writes into the record of an epoch beside what is measured, and sums it by.
LOOP_NAMES = (
    *("epoch", "step", "loss", "count", "gradient_norm", "learning_rate"),
    *("seconds", "images_per_second", "waiting"),
)
# What stands there before the names of what is measured on other data.
PARTS = ("val_", "test_")


@dataclass(frozen=True)
class Metric:
    """A figure that is more than a mean over examples, of pure functions.

    Args:
        init: () -> sums of no example, a pytree of zeros; a zero stands for an array of any shape.
        update: (outputs, batch) -> sums of the same structure over the examples of a batch, arrays
            of whatever shape, made on the device. The batch holds "labels" and "mask", float32 [N],
            1 for real examples and 0 for those that fill up the last batch, which count nowhere.
        compute: what it comes to, of sums in float64 NumPy: a number, an array, or either by name.
        mode: whether "max" or "min" is best; None where nothing is, as of a table.

    Raises:
        ValueError: for what is no function, and another mode.

    >>> import jax.numpy as jnp
    >>> def update(outputs, batch):
    ...     far = jnp.abs(outputs - batch["labels"]).max(axis=1) > 1
    ...     return {"far": (far * batch["mask"]).sum(), "all": batch["mask"].sum()}
    >>> far = Metric(lambda: {"far": 0.0, "all": 0.0}, update, lambda s: s["far"] / s["all"], "min")
    >>> import cnnjax as cj
    >>> batch = {"labels": jnp.zeros((4, 2)), "mask": jnp.array([1.0, 1.0, 1.0, 0.0])}
    >>> sums = cj.metrics.add({}, {"far": far.update(jnp.full((4, 2), 2.0), batch)})
    >>> float(far.compute(sums["far"]))
    1.0
    """

    init: Callable[[], Any]
    update: Callable[[Any, Mapping[str, Any]], Any]
    compute: Callable[[Any], Any]
    mode: str | None = "max"

    def __post_init__(self) -> None:
        for name in ("init", "update", "compute"):
            if not callable(function := getattr(self, name)):
                raise ValueError(f"{name} of a Metric must be a function, got {function!r}")
        if self.mode not in ("max", "min", None):
            raise ValueError(f"mode of a Metric must be 'max', 'min' or None, got {self.mode!r}")

    def values(self, name: str, sums: Any) -> dict[str, Any]:
        """What sums come to by name; of several results the names stand behind its own.

        Args:
            name: of the metric.
            sums: with the leaves of `init`, as `metrics.add` makes them.

        Returns:
            A float, or an array in float64, by name.
        """
        structure = jax.tree.structure(self.init())
        whole = jax.tree.unflatten(structure, jax.tree.leaves(sums))
        result = self.compute(whole)
        named = (
            {f"{name}_{key}": value for key, value in result.items()}
            if isinstance(result, Mapping)
            else {name: result}
        )
        for key in named:
            if not re.fullmatch(r"\w+", key):
                raise ValueError(
                    f"metric {name!r}: names of results must be of letters, digits and '_', got "
                    f"{key.removeprefix(name + '_')!r}"
                )
        arrays = {key: np.asarray(value, np.float64) for key, value in named.items()}
        return {key: array if array.ndim else float(array) for key, array in arrays.items()}


# A metric, or a function (outputs, labels) -> [N], of which the mean is measured.
Measure = Metric | Loss


@dataclass(frozen=True)
class With:
    """A function with settings; unlike a partial equal to another one of the same.

    So that what is compiled for a metric serves another metric with the same settings.

    Args:
        function: to call.
        settings: arguments by name.
    """

    function: Callable[..., Any]
    settings: tuple[tuple[str, Any], ...]

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns of arguments and settings."""
        return self.function(*arguments, **dict(self.settings))


def of_output(name: str, measure: Measure) -> Measure:
    """A metric of one of several outputs, by its name.

    Args:
        name: of the output, and of its labels where these have names too.
        measure: of that output alone.

    >>> import jax.numpy as jnp, cnnjax as cj
    >>> far = of_output("depth", cj.metrics.absolute_error)
    >>> far({"depth": jnp.ones((2, 1)), "mask": jnp.ones(3)}, {"depth": jnp.zeros((2, 1))}).tolist()
    [1.0, 1.0]
    """
    if isinstance(measure, Metric):
        update = With(_updated_of, (("name", name), ("update", measure.update)))
        return replace(measure, update=update)
    return With(_measured_of, (("name", name), ("measure", measure)))


def check_one_output(outputs: Any) -> None:
    """Refuse several outputs by name, for a metric of one array.

    Raises:
        ValueError: with the way to measure one of them.
    """
    if isinstance(outputs, Mapping):
        first = next(iter(outputs), "name")
        raise ValueError(
            f"this metric is of one output, and there are several by name ({', '.join(outputs)}): "
            f"cj.metrics.of_output({first!r}, metric) measures one of them"
        )


def zeros(*names: str) -> Callable[[], dict[str, float]]:
    """An `init` of sums by name.

    >>> zeros("right", "all")()
    {'right': 0.0, 'all': 0.0}
    """
    return With(_zeros, (("names", names),))


def mode_of(name: str, measures: Mapping[str, Measure]) -> str | None:
    """Whether the most or the least of a metric is best; None where that is not known.

    Args:
        name: "loss", one of the metrics, or one of the results of one of them.
        measures: all metrics by name.

    Raises:
        ValueError: for an unknown name, with the nearest ones.

    >>> mode_of("loss", {}), mode_of("my_error", {"my_error": lambda outputs, labels: labels})
    ('min', 'min')
    """
    if name == "loss":
        return "min"
    owner = max((m for m in measures if _is_of(name, m, measures[m])), key=len, default=None)
    if owner is None:
        known = ["loss", *measures]
        hint = suggest(name.removeprefix("val_"), known, "metrics")  # as Keras calls them
        raise ValueError(f"there is no metric {name!r}. {hint}")
    measure = measures[owner]
    return measure.mode if isinstance(measure, Metric) else mode_by_name(name)


def mode_by_name(name: str) -> str | None:
    """What is best of a figure that says no more of itself than its name.

    >>> mode_by_name("val_loss"), mode_by_name("test_accuracy"), mode_by_name("margin")
    ('min', 'max', None)
    """
    if name.endswith(("loss", "error")):
        return "min"
    return "max" if name.endswith("accuracy") else None


def _updated_of(outputs: Any, batch: Mapping[str, Any], name: str, update: Any) -> Any:
    labels = _at(batch["labels"], name, "labels")
    return update(_at(outputs, name, "outputs"), {**batch, "labels": labels})


def _measured_of(outputs: Any, labels: Any, name: str, measure: Any) -> Any:
    return measure(_at(outputs, name, "outputs"), _at(labels, name, "labels"))


def _at(values: Any, name: str, what: str) -> Any:
    if what == "labels" and not isinstance(values, Mapping):
        return values
    if not isinstance(values, Mapping):
        raise ValueError(f"of_output({name!r}, ...) is for several outputs, and there is one")
    if name not in values:
        raise ValueError(f"the {what} have no {name!r}. {suggest(name, values, what)}")
    return values[name]


def _zeros(names: Iterable[str]) -> dict[str, float]:
    return dict.fromkeys(names, 0.0)


def _is_of(name: str, metric: str, measure: Measure) -> bool:
    """Whether a metric may have a result of a name."""
    return name == metric or (isinstance(measure, Metric) and name.startswith(f"{metric}_"))

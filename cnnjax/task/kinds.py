"""What the outputs of a model mean: the tasks.

- "classes": logits [N, K] of one class each, labels int [N]; one logit decides between two.
- "binary": one logit [N, 1] of yes or no, labels [N], 0 or 1 or a probability.
- "multilabel": a logit [N, K] for each of K labels, of which any may hold; labels [N, K], 0 or 1 or
  probabilities.
- "values": real numbers [N, K], labels of the same shape.
- "positions": logits [N, P, K] of a class at each of P positions, labels int [N, P].
- "dense": logits [N, H, W, K] of a class at each pixel, labels int [N, H, W]; -1 is a pixel that
  counts nowhere. One logit a pixel decides between two classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import jax
import numpy as np
from jax import Array

from cnnjax import metrics
from cnnjax.task.decoding import (
    class_lines,
    label_lines,
    pixel_lines,
    position_lines,
    probabilities,
    value_lines,
)
from cnnjax.task.label_checks import (
    IGNORED,
    class_labels,
    finite_labels,
    pixel_labels,
    shares,
)
from cnnjax.task.names import known_or_own

# What labels may be: a kind of NumPy's, and what to call it.
_KINDS = {
    "integer": (np.integer, "integer"),
    "floating": (np.floating, "floating"),
    "number": (np.number, "integer or floating"),
}


def none(values: Array) -> Array:
    """No change: for what is already as it is wanted."""
    return values


@dataclass(frozen=True)
class Task:
    """What the outputs of a model mean: one of `TASKS`, or one of your own.

    Args:
        name: in records and messages.
        loss: (outputs, labels) -> [N], which a model is trained with unless told otherwise.
        metrics: what is measured beside the loss, by name, each (outputs, labels) -> [N] or a
            `cj.metrics.Metric`. At least one; reports show the first by name, progress a few.
        outputs: names of the axes of a model's outputs, "N" first, e.g. ("N", "K"); or numbers for
            those of a fixed size, as ("N", 1). "K" is the axis of the classes or values, which have
            names; "P" is one of positions; "H" and "W" are rows and columns of the image.
        labels: names of those that the labels have, e.g. ("N",) where each is a class of K. Where
            "H" and "W" are among them, augmentation moves the labels with the image.
        label_kind: "integer", "floating", or "number" for both.
        check: (labels, shape of one example's outputs, name of the model); raises a ValueError of
            one sentence for labels of the right shape and kind that cannot be.
        activation: outputs to what `predict` returns, e.g. logits to probabilities.
        decode: (what `predict` returned, label_names) -> a line of text per example.
        of_classes: whether outputs are logits of K classes of which one is the answer, for the
            whole example or at each position, so that there is a class to explain.
        ignored: label of what counts nowhere, neither in the loss nor in the metrics, which pixels
            have that augmentation uncovers; None where there is none.

    Raises:
        ValueError: for axes of outputs and labels that do not fit together, another kind of label,
            and a task without a metric.

    >>> import jax.numpy as jnp
    >>> def poisson(outputs, labels):
    ...     return (jnp.exp(outputs) - labels * outputs).sum(axis=1)
    >>> task = Task("counts", poisson, {"error": metrics.absolute_error}, labels=("N", "K"),
    ...             check=finite_labels, activation=jnp.exp, decode=value_lines, of_classes=False)
    >>> task.label_shape((3,))
    (3,)
    """

    name: str
    loss: metrics.Loss
    metrics: Mapping[str, metrics.Measure] = field(hash=False)
    outputs: tuple[str | int, ...] = ("N", "K")
    labels: tuple[str, ...] = ("N",)
    label_kind: str = "integer"
    check: Callable[[np.ndarray, tuple[int, ...], str], None] = class_labels
    activation: Callable[[Array], Array] = probabilities
    decode: Callable[[np.ndarray, Sequence[str]], list[str]] = class_lines
    of_classes: bool = True
    ignored: int | None = None

    def __post_init__(self) -> None:
        names = [axis for axis in self.outputs if isinstance(axis, str)]
        sizes = [axis for axis in self.outputs if not isinstance(axis, str)]
        whole = all(isinstance(size, int) and size >= 1 for size in sizes)
        if self.outputs[:1] != ("N",) or len(set(names)) < len(names) or not whole:
            raise ValueError(
                "outputs of a task must be 'N' and names of other axes, each once, or sizes >= 1, "
                f"got {self.outputs!r}"
            )
        if self.labels[:1] != ("N",) or not set(self.labels) <= set(names):
            raise ValueError(
                f"labels of a task must be 'N' and others of {self.outputs}, got {self.labels!r}"
            )
        if self.label_kind not in _KINDS:
            raise ValueError(
                f"label_kind must be {', '.join(map(repr, _KINDS))}, got {self.label_kind!r}"
            )
        if not self.metrics:
            raise ValueError(f"the task {self.name!r} needs a metric at least, got none")

    @property
    def has_positions(self) -> bool:
        """Whether there is an answer at each of several positions."""
        return "P" in self.outputs

    @property
    def has_pixels(self) -> bool:
        """Whether there is a label at each pixel, so that labels move with the image."""
        return {"H", "W"} <= set(self.labels)

    def count(self, outputs: tuple[int | None, ...]) -> int:
        """How many classes or values there are, of the shape of one example's outputs.

        The size of the axis "K", or else of the last one of a fixed size, or else 1.
        """
        if "K" in self.outputs:
            return outputs[self.outputs.index("K") - 1] or 0
        fixed = [axis for axis in self.outputs if isinstance(axis, int)]
        return fixed[-1] if fixed else 1

    def names(self, count: int) -> int:
        """How many names so many classes or values have; one logit decides between two classes."""
        return count if "K" in self.labels else max(count, 2)

    def label_shape(self, outputs: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one example's label, of that of its outputs."""
        sizes = dict(zip(self.outputs[1:], outputs, strict=True))
        return tuple(sizes[axis] for axis in self.labels[1:])

    def check_labels(self, labels: np.ndarray, outputs: tuple[int, ...], model: str) -> None:
        """Refuse labels that this task cannot have.

        Args:
            labels: of all examples.
            outputs: shape of the outputs of one.
            model: its name.

        Raises:
            ValueError: naming what is wrong with them.
        """
        shape, (kind, text) = self.label_shape(outputs), _KINDS[self.label_kind]
        if labels.shape[1:] != shape or not np.issubdtype(labels.dtype, kind):
            raise ValueError(
                f"labels of shape {list(labels.shape)} and dtype {labels.dtype} do not fit, the "
                f"model {model} needs {text} [{', '.join(['N', *map(str, shape)])}] for its task "
                f"{self.name!r}{_remedy(labels, self)}"
            )
        self.check(labels, outputs, model)


def _remedy(labels: np.ndarray, task: Task) -> str:
    """How labels of another task become those of this one, where that is known; or nothing."""
    whole = np.issubdtype(labels.dtype, np.integer)
    if task.name == "multilabel" and labels.ndim == 1 and whole:
        return ": cj.data.one_hot(labels, num_classes) has a label for each class"
    if task.name == "values" and labels.ndim == 1:
        return ": give the arrays to cj.data.from_arrays with task='values'"
    if task.name == "classes" and labels.ndim == 2:
        return ": several labels an example are for a model of the task 'multilabel'"
    if task.name == "classes" and labels.ndim == 3:
        return ": a label a pixel is for a model of the task 'dense'"
    return ""


CLASSES = Task("classes", metrics.cross_entropy, {"accuracy": metrics.correct})
POSITIONS = Task(
    "positions",
    metrics.positions_cross_entropy,
    {"accuracy": metrics.correct},
    outputs=("N", "P", "K"),
    labels=("N", "P"),
    decode=position_lines,
)
VALUES = Task(
    "values",
    metrics.mean_squared_error,
    {"absolute_error": metrics.absolute_error},
    labels=("N", "K"),
    label_kind="floating",
    check=finite_labels,
    activation=none,
    decode=value_lines,
    of_classes=False,
)
BINARY = Task(
    "binary",
    metrics.sigmoid_cross_entropy,
    {"accuracy": metrics.correct},
    outputs=("N", 1),
    label_kind="number",
    check=shares,
)
MULTILABEL = Task(
    "multilabel",
    metrics.multilabel_cross_entropy,
    {"accuracy": metrics.labels_correct},
    labels=("N", "K"),
    label_kind="number",
    check=shares,
    activation=jax.nn.sigmoid,
    decode=label_lines,
    of_classes=False,
)
DENSE = Task(
    "dense",
    metrics.pixels_cross_entropy,
    {"accuracy": metrics.pixels_correct},
    outputs=("N", "H", "W", "K"),
    labels=("N", "H", "W"),
    check=pixel_labels,
    decode=pixel_lines,
    of_classes=False,
    ignored=IGNORED,
)
# As records have always called them.
USUAL_LOSSES = {
    metrics.cross_entropy: "cross-entropy",
    metrics.positions_cross_entropy: "cross-entropy",
    metrics.mean_squared_error: "mean squared error",
    metrics.sigmoid_cross_entropy: "cross-entropy",
    metrics.multilabel_cross_entropy: "cross-entropy",
    metrics.pixels_cross_entropy: "cross-entropy",
}
TASKS = {task.name: task for task in (CLASSES, POSITIONS, VALUES, BINARY, MULTILABEL, DENSE)}


def as_task(task: str | Task) -> Task:
    """A task, or the one of that name; `any_task` takes several by name too.

    Raises:
        ValueError: for an unknown name, or a task of one's own with a name of ours.
    """
    return known_or_own(task, Task, TASKS, "task")

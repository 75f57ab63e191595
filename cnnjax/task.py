"""What the outputs and inputs of a model mean: the tasks, and the kinds of inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax import metrics
from cnnjax.core.text import suggest


def probabilities(logits: Array) -> Array:
    """Softmax of [..., K] logits; sigmoid where K is 1."""
    return jax.nn.sigmoid(logits) if logits.shape[-1] == 1 else jax.nn.softmax(logits, axis=-1)


def both_classes(probs: np.ndarray) -> np.ndarray:
    """Probabilities [N, K]; of one logit's [N, 1] those of both classes, [N, 2]."""
    return np.concatenate([1 - probs, probs], axis=1) if probs.shape[1] == 1 else probs


def none(values: Array) -> Array:
    """No change: for what is already as it is wanted."""
    return values


def class_labels(labels: np.ndarray, outputs: tuple[int, ...], model: str) -> None:
    """Labels are numbers of classes; arguments and errors as in `Task`."""
    classes = max(outputs[-1], 2)
    wrong = (labels >= classes) | (labels < 0)
    if wrong.any():
        at, highest = np.argwhere(wrong)[0].tolist(), max(int(np.max(labels)), 0)
        raise ValueError(
            f"labels{at} is {labels[tuple(at)]}, but {model} has num_classes={outputs[-1]}, so "
            f"labels must lie in [0, {classes}): create it with num_classes={highest + 1} or more"
        )


def finite_labels(labels: np.ndarray, outputs: tuple[int, ...], model: str) -> None:
    """Labels are finite numbers; arguments and errors as in `Task`."""
    if not np.isfinite(labels).all():
        raise ValueError("the labels hold NaN or infinity")


def decode_positions(
    probs: np.ndarray, label_names: Sequence[str] = ()
) -> list[list[tuple[str, float]]]:
    """The most probable class at each position.

    Args:
        probs: [N, P, K] probabilities, as `predict` gives them of a model of positions.
        label_names: one name per class; where empty, classes are numbered.

    Returns:
        Per image [(name, probability), ...], one for each position.

    Raises:
        ValueError: if probs is not three-dimensional, or the names do not fit.

    >>> decode_positions(np.array([[[0.1, 0.9], [0.8, 0.2]]]), ("A", "B"))
    [[('B', 0.9), ('A', 0.8)]]
    """
    probs = np.asarray(probs)
    if probs.ndim != 3:
        raise ValueError(
            f"probs must be [N, positions, num_classes], got shape {list(probs.shape)}"
        )
    if label_names and len(label_names) != probs.shape[2]:
        raise ValueError(f"{len(label_names)} label_names for {probs.shape[2]} classes")
    names = list(label_names) or [str(k) for k in range(probs.shape[2])]
    return [
        [(names[k], float(p)) for k, p in zip(row.argmax(axis=1), row.max(axis=1), strict=True)]
        for row in probs
    ]


def class_lines(probs: np.ndarray, label_names: Sequence[str] = ()) -> list[str]:
    """The most probable class of each example; the second one is that of a single logit.

    >>> class_lines(np.array([[0.1, 0.9]]), ("cat", "dog"))
    ['dog 0.9000']
    """
    decoded = decode_positions(both_classes(probs)[:, None], label_names)
    return [f"{name} {probability:.4f}" for ((name, probability),) in decoded]


def position_lines(probs: np.ndarray, label_names: Sequence[str] = ()) -> list[str]:
    """The text of each example with its probability, and those of its symbols.

    >>> position_lines(np.array([[[0.1, 0.9], [0.8, 0.2]]]), ("A", "B"))
    ['BA 0.7200  B 0.9000  A 0.8000']
    """
    lines = []
    for symbols in decode_positions(probs, label_names):
        text, sure = "".join(name for name, _ in symbols), math.prod(p for _, p in symbols)
        single = "  ".join(f"{name} {p:.4f}" for name, p in symbols)
        lines.append(f"{text} {sure:.4f}  {single}")
    return lines


def value_lines(outputs: np.ndarray, label_names: Sequence[str] = ()) -> list[str]:
    """The numbers of each example, each with its name where there are names.

    >>> value_lines(np.array([[1.5, -20.0]]))
    ['1.5  -20']
    """
    names = [f"{name} " for name in label_names] or [""] * outputs.shape[1]
    return [
        "  ".join(f"{name}{value:.6g}" for name, value in zip(names, row, strict=True))
        for row in outputs
    ]


@dataclass(frozen=True)
class Task:
    """What the outputs of a model mean; `classes`, `positions`, `values`, or one of your own.

    Args:
        name: in records and messages.
        loss: (outputs, labels) -> [N], which a model is trained with unless told otherwise.
        metrics: what is measured beside the loss, each (outputs, labels) -> [N], by name. At least
            one; progress and reports show the first by name.
        outputs: names of the axes of a model's outputs, ("N", "K") or ("N", "P", "K").
        labels: names of those that the labels have, e.g. ("N",) where each is a class of K.
        label_kind: "integer" or "floating".
        check: (labels, shape of one example's outputs, name of the model); raises a ValueError of
            one sentence for labels of the right shape and kind that cannot be.
        activation: outputs to what `predict` returns, e.g. logits to probabilities.
        decode: (what `predict` returned, label_names) -> a line of text per example.
        of_classes: whether outputs are logits of K classes, which have names and explanations.

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
    metrics: Mapping[str, metrics.Loss] = field(hash=False)
    outputs: tuple[str, ...] = ("N", "K")
    labels: tuple[str, ...] = ("N",)
    label_kind: str = "integer"
    check: Callable[[np.ndarray, tuple[int, ...], str], None] = class_labels
    activation: Callable[[Array], Array] = probabilities
    decode: Callable[[np.ndarray, Sequence[str]], list[str]] = class_lines
    of_classes: bool = True

    def __post_init__(self) -> None:
        if self.outputs not in (("N", "K"), ("N", "P", "K")):
            raise ValueError(
                f"outputs of a task must be ('N', 'K') or ('N', 'P', 'K'), got {self.outputs!r}"
            )
        if self.labels[:1] != ("N",) or not set(self.labels) <= set(self.outputs):
            raise ValueError(
                f"labels of a task must be 'N' and others of {self.outputs}, got {self.labels!r}"
            )
        if self.label_kind not in ("integer", "floating"):
            raise ValueError(f"label_kind must be 'integer' or 'floating', got {self.label_kind!r}")
        if not self.metrics:
            raise ValueError(f"the task {self.name!r} needs a metric at least, got none")

    @property
    def has_positions(self) -> bool:
        """Whether there is an answer at each of several positions."""
        return "P" in self.outputs

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
        shape, kind = self.label_shape(outputs), getattr(np, self.label_kind)
        if labels.shape[1:] != shape or not np.issubdtype(labels.dtype, kind):
            raise ValueError(
                f"labels of shape {list(labels.shape)} and dtype {labels.dtype} do not fit, the "
                f"model {model} needs {self.label_kind} [{', '.join(['N', *map(str, shape)])}] for "
                f"its task {self.name!r}"
            )
        self.check(labels, outputs, model)


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
# As records have always called them.
USUAL_LOSSES = {
    metrics.cross_entropy: "cross-entropy",
    metrics.positions_cross_entropy: "cross-entropy",
    metrics.mean_squared_error: "mean squared error",
}
TASKS = {task.name: task for task in (CLASSES, POSITIONS, VALUES)}


def as_task(task: str | Task) -> Task:
    """A task, or the one of that name.

    Raises:
        ValueError: for an unknown name, or a task of one's own with a name of ours.
    """
    return _known(task, Task, TASKS, "task")


@dataclass(frozen=True)
class Inputs:
    """What a model is given, and what becomes of it before the first layer.

    Args:
        name: in records and messages.
        preprocess: what is given, in the dtype, to what the module takes; pure.
        dtype: of what the module takes: "float32", of uint8 or floating data, or "int32", of token
            ids, which are whole numbers to the module too.
        pixels: whether floating data must be pixels in [0, 255].
        rgb: whether three channels are needed.
        check: (lowest, highest value) of floating data; raises a ValueError of one sentence for
            what cannot be.

    >>> import jax.numpy as jnp
    >>> Inputs("decibels", lambda power: 10 * jnp.log10(power)).preprocess(jnp.array(100.0)).item()
    20.0
    """

    name: str
    preprocess: Callable[[Array], Array]
    dtype: str = "float32"
    pixels: bool = False
    rgb: bool = False
    check: Callable[[float, float], None] | None = None

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "int32"):
            raise ValueError(f"dtype of inputs must be 'float32' or 'int32', got {self.dtype!r}")

    @property
    def tokens(self) -> bool:
        """Whether they are token ids."""
        return self.dtype == "int32"

    def check_range(self, low: float, high: float, what: str, *, one: bool = False) -> None:
        """Refuse floating data whose range shows that they are not what is expected.

        Args:
            low, high: smallest and largest value.
            what: the data's name in the message.
            one: whether this is one image of several, which may be as dark as it likes.

        Raises:
            ValueError: for pixels outside [0, 255], or all within [0, 1]; or as `check` says.
        """
        inside = low >= 0 and high <= 255  # NaN is not
        if self.pixels and (not inside or (not one and 0 < high <= 1)):
            raise ValueError(
                f"{what}: floating images must be pixels in [0, 255], these lie in "
                f"[{low:g}, {high:g}]: scale them back, or use a model with preprocessing='none'"
            )
        if self.check is not None:
            try:
                self.check(low, high)
            except ValueError as error:
                raise ValueError(f"{what}: {error}") from None


def _unit(images: Array) -> Array:
    """RGB or grey in [0, 255] to [0, 1]: x / 255."""
    return images / 255.0


def _tf(images: Array) -> Array:
    """RGB in [0, 255] to [-1, 1]: x / 127.5 - 1 (InceptionV3, Xception, MobileNet)."""
    return images / 127.5 - 1.0


def _caffe(images: Array) -> Array:
    """RGB in [0, 255] to BGR less ImageNet's mean (103.939, 116.779, 123.68) (VGG, ResNet50)."""
    return images[..., ::-1] - _row((103.939, 116.779, 123.68), images)


def _torch(images: Array) -> Array:
    """RGB in [0, 255] to (x / 255 - mean) / deviation, with torchvision's of ImageNet."""
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return (images / 255.0 - _row(mean, images)) / _row(deviation, images)


def _row(values: tuple[float, ...], images: Array) -> Array:
    """One value per channel, of the images' rank."""
    return jnp.array(values, images.dtype).reshape((1,) * (images.ndim - 1) + (-1,))


INPUTS = {
    inputs.name: inputs
    for inputs in (
        Inputs("unit", _unit, pixels=True),
        Inputs("none", none),
        Inputs("tokens", none, dtype="int32"),
        Inputs("tf", _tf, pixels=True),
        Inputs("caffe", _caffe, pixels=True, rgb=True),
        Inputs("torch", _torch, pixels=True, rgb=True),
    )
}


def as_inputs(preprocessing: str | Inputs) -> Inputs:
    """Inputs, or those of that name of preprocessing.

    Raises:
        ValueError: for an unknown name, or inputs of one's own with a name of ours.
    """
    return _known(preprocessing, Inputs, INPUTS, "preprocessing")


def _known(given: Any, kind: type[Any], ours: Mapping[str, Any], argument: str) -> Any:
    if isinstance(given, kind):
        if ours.get(given.name, given) != given:
            raise ValueError(
                f"{argument} of your own needs a name of its own, {given.name!r} is one of cnnjax"
            )
        return given
    if not isinstance(given, str) or given not in ours:
        raise ValueError(
            f"{argument} must be one of {', '.join(ours)}, got {given!r}, or a cj.{kind.__name__} "
            f"of your own. {suggest(str(given), ours)}"
        )
    return ours[given]

"""Loss and metrics over a whole data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from cnnjax.data import (
    Batch,
    Dataset,
    Loader,
    Splits,
    Stream,
    StreamLoader,
    from_arrays,
    prefetch,
)
from cnnjax.metrics import Loss, Measure, checked, divide
from cnnjax.models import Model
from cnnjax.training import scans
from cnnjax.training.data_checks import check_data
from cnnjax.training.devices import Devices
from cnnjax.training.freezing import Tree
from cnnjax.training.step import EvalStep, make_eval_step
from cnnjax.training.streams import evaluation_loader
from cnnjax.training.tally import AHEAD, Tally

# Of the sums of one program.
_MOST_BYTES = 64 * 2**20


def evaluate(
    model: Model,
    data: Dataset | Stream | tuple[np.ndarray, np.ndarray],
    *,
    batch_size: int = 64,
    loss: Loss | None = None,
    metrics: Mapping[str, Measure] | None = None,
    precision: str = "float32",
) -> dict[str, Any]:
    """The loss and the metrics of a model over every example of a data set, each counting once.

    Each of several processes evaluates all of it by itself, on one of its devices.

    Args:
        model: to evaluate.
        data: a Dataset, whose weights play no part; a Stream, of which epoch 0 is taken; or
            (inputs, labels) as `from_arrays` takes them. Images are pixels in [0, 255].
        batch_size: >= 1; it does not change the result but for rounding. A stream has its own.
        loss, metrics: as in `fit`.
        precision: of the computation, as in `TrainingConfig`.

    Returns:
        {name: value} of "loss", the task's metrics (of classes "accuracy", a fraction) and those
        given: floats, or float64 arrays of those that are tables.

    Raises:
        ValueError: if data and model do not fit together, or for a metric that is none.

    >>> import cnnjax as cj
    >>> model, test = cj.create_model("mlp", units=(8,)), cj.data.load("digits").test
    >>> error = lambda outputs, labels: 1 - cj.metrics.correct(outputs, labels)
    >>> means = cj.evaluate(model, test, metrics={"error": error})
    >>> round(means["accuracy"] + means["error"], 6)
    1.0
    """
    if isinstance(data, tuple):
        data = from_arrays(*data, task=model.spec.task)
    if not isinstance(data, Dataset | Stream):
        raise ValueError(
            f"data must be a Dataset or (images, labels), got {type(data).__name__}"
            + ("; give one of its parts, e.g. splits.test" if isinstance(data, Splits) else "")
        )
    check_data(model, data)
    given = checked(metrics, model.spec.task.metrics)
    step = jax.jit(make_eval_step(model, loss, metrics=given, precision=precision))
    measures = {**model.spec.task.metrics, **given}
    loader = evaluation_loader(data, batch_size, model.spec, alone=True)
    return evaluate_step(step, model.variables, loader, measures)


def evaluate_step(
    step: EvalStep,
    variables: Tree,
    loader: Loader | StreamLoader,
    measures: Mapping[str, Measure],
    place: Callable[[Batch], dict[str, jax.Array]] = jax.device_put,
) -> dict[str, Any]:
    """`evaluate` with a compiled step: means over every example that the loader has.

    Args:
        step: compiled.
        variables: of the model.
        loader: of the data.
        measures: what the step sums up beside the loss.
        place: as in `prefetch`.
    """
    batches = prefetch(loader.epoch(0), place=place, threaded=loader.decodes)
    tally = Tally(finite=False)
    totals: dict[str, Any] = {}
    for number, batch in enumerate(batches, start=1):
        tally.add(number, step(variables, batch))
        if tally.full:
            totals = tally.fetch(totals, leave=AHEAD)
    return divide(tally.fetch(totals), measures)


class ResidentEvaluation:
    """`evaluate_step` over data that stay on the device, as programs of many steps.

    Args:
        step: not compiled yet.
        loader: of the data.
        measures: what the step sums up beside the loss.
        devices: among which the batches are divided.
        options: of the compiler.
    """

    def __init__(
        self,
        step: EvalStep,
        loader: Loader,
        measures: Mapping[str, Measure],
        devices: Devices,
        options: dict[str, Any] | None,
    ):
        self.measures, self.devices, self.order = measures, devices, loader.order(0)
        arrays = jax.tree.map(np.asarray, loader.data.arrays)
        self._examples = devices.replicate(scans.flat(arrays))
        self._program = jax.jit(
            scans.evaluation(step, arrays),
            out_shardings=devices.everywhere,
            compiler_options=options,
        )

    def __call__(self, variables: Tree) -> dict[str, Any]:
        """Loss and metrics of variables, as `evaluate_step` has them."""
        tally = Tally(finite=False)
        totals: dict[str, Any] = {}
        indices, mask = self.order
        length = self._length(variables)
        for begin in range(0, len(indices), length):
            rows = slice(begin, begin + length)
            places = (self.devices.place_steps(array[rows]) for array in (indices, mask))
            tally.add(begin, self._program(variables, self._examples, *places))
            totals = tally.fetch(totals, leave=AHEAD)
        return divide(tally.fetch(totals), self.measures)

    def _length(self, variables: Tree) -> int:
        """Steps of a program, whose sums are on the device at once: tables are large."""
        indices, mask = self.order
        one = jax.eval_shape(self._program, variables, self._examples, indices[:1], mask[:1])
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(one))
        return min(max(_MOST_BYTES // size, 1), len(indices))

"""Loss and accuracy over a whole data set."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

from cnnjax import metrics
from cnnjax.data import Batch, Dataset, Loader, Splits, from_arrays, prefetch
from cnnjax.models import Model
from cnnjax.training.freezing import Tree
from cnnjax.training.setting_checks import check_data
from cnnjax.training.step import EvalStep, make_eval_step


def evaluate(
    model: Model,
    data: Dataset | tuple[np.ndarray, np.ndarray],
    *,
    batch_size: int = 64,
    loss: metrics.Loss | None = None,
    precision: str = "float32",
) -> dict[str, float]:
    """Loss and accuracy over every example of a data set.

    Args:
        model: to evaluate.
        data: a Dataset, or (images, labels) as `from_arrays` takes them; pixels in [0, 255].
        batch_size: >= 1; it does not change the result but for rounding.
        loss: as in `fit`.
        precision: "float32" or "bfloat16".

    Returns:
        {"loss": mean, "accuracy": fraction}.

    Raises:
        ValueError: if data and model do not fit together.
    """
    if isinstance(data, tuple):
        data = from_arrays(*data, task=model.spec.task)
    if not isinstance(data, Dataset):
        raise ValueError(
            f"data must be a Dataset or (images, labels), got {type(data).__name__}"
            + ("; give one of its parts, e.g. splits.test" if isinstance(data, Splits) else "")
        )
    check_data(model, data)
    step = jax.jit(make_eval_step(model, loss, precision=precision))
    return evaluate_step(step, model.variables, Loader(data, batch_size))


def evaluate_step(
    step: EvalStep,
    variables: Tree,
    loader: Loader,
    place: Callable[[Batch], dict[str, jax.Array]] = jax.device_put,
) -> dict[str, float]:
    """`evaluate` with a compiled step: means over every example that the loader has.

    Args:
        step: compiled.
        variables: of the model.
        loader: of the data.
        place: as in `prefetch`.
    """
    batches = prefetch(loader.epoch(0), place=place, threaded=loader.decodes)
    sums = [step(variables, batch) for batch in batches]
    totals: dict[str, float] = {}
    for one in jax.device_get(sums):
        totals = metrics.add(totals, one)
    return metrics.divide(totals)

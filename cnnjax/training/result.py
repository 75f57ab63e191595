"""What `fit` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnjax.core import trees
from cnnjax.core.html import html_table, inline_image, paragraphs
from cnnjax.core.processes import on_host
from cnnjax.metrics import columns, recorded, values
from cnnjax.metrics.showing import names_for
from cnnjax.models import Model
from cnnjax.runs.by_class import by_class, counts
from cnnjax.training.computation import Computation
from cnnjax.training.own_step import OwnState, State
from cnnjax.training.recorder import Recorder
from cnnjax.training.selection import Selection, copied


@dataclass(frozen=True)
class Run:
    """What `fit` returns.

    Args:
        model: with the result's parameters: the best ones on the validation data if a metric is
            monitored and there is such data, else the last ones.
        history: float arrays with a value per epoch for epoch, step, loss, accuracy (for a model of
            values absolute_error in its place, here and below), learning_rate,
            seconds, images_per_second, waiting (the share of the seconds spent waiting for data;
            these three count a broken epoch up to its checkpoint, and from there after resuming)
            and, with validation data, val_loss and val_accuracy; of metrics that are tables
            [epochs, ...].
        metrics: of the model: val_loss, val_accuracy, test_loss, test_accuracy where there is data,
            and the other metrics likewise: floats, or float64 arrays of those that are tables.
        directory: where it was recorded, or None.
        parameter_hash: SHA-256 of the model's variables; equal if and only if bitwise equal.
        best_epoch: the epoch the model is from, counted from 1.
        seconds: of this call and, if it resumed a run, of the training before it.
        opt_state: of the optimiser when it had made the model, with NumPy arrays, from which
            another `fit` may go on; None of a step of one's own.
        value: of a step of one's own, when it had made the model, in NumPy arrays; None else.
    """

    model: Model
    history: dict[str, np.ndarray]
    metrics: dict[str, Any]
    directory: Path | None
    parameter_hash: str
    best_epoch: int
    seconds: float
    opt_state: optax.OptState = None
    value: Any = None

    def __repr__(self) -> str:
        figures = [f"{k} {v:.4g}" for k, v in self.metrics.items() if np.ndim(v) == 0]
        where = [str(self.directory)] if self.directory else []
        best = f"best epoch {self.best_epoch} of {len(self.history['epoch'])}"
        return f"Run({', '.join([self.model.spec.name, best, *figures, *where])})"

    def _repr_html_(self) -> str:
        from cnnjax.plot.figures import confusion_matrix, curves
        from cnnjax.plot.shown_figure import png

        names = self.model.spec.label_names
        numbers = [(k.replace("_", " "), v) for k, v in self.metrics.items() if np.ndim(v) == 0]
        tables = {k: np.asarray(v) for k, v in self.metrics.items() if np.ndim(v)}
        shown = [html_table([("metric", "value"), *numbers])] if numbers else []
        shown += [html_table([head, *rows]) for head, rows in by_class(tables, names)]
        shown += [
            inline_image(png(confusion_matrix(table, names_for(len(table), names, name))), name)
            for name, table in counts(tables).items()
        ]
        return paragraphs(repr(self)) + "".join([*shown, inline_image(png(curves(self.history)))])


def result_of(
    computation: Computation,
    state: State,
    selection: Selection,
    recorder: Recorder,
    seconds: float,
) -> Run:
    """What `fit` returns, tested where there is test data.

    Args:
        computation: of the training.
        state: at its end.
        selection: of the best epoch, whose state is taken where one is monitored.
        recorder: with the records of all epochs.
        seconds: as in `Run`.
    """
    state = selection.best_state or state
    # Through the host: the result lies on one device, wherever it was trained.
    variables = jax.tree.map(lambda v: jnp.array(on_host(v)), state.variables())
    # The validation data were evaluated on these very variables at the end of their epoch.
    best = recorder.epochs[selection.best_epoch - 1]
    results: dict[str, Any] = {k: values(v) for k, v in best.items() if k.startswith("val_")}
    if computation.splits.test:
        means = computation.test(variables, computation.splits.test)
        results.update({f"test_{k}": v for k, v in means.items()})
    return Run(
        model=computation.model.replace(variables=variables),
        history=columns(recorder.epochs),
        metrics=results,
        directory=recorder.path,
        parameter_hash=trees.tree_hash(variables),
        best_epoch=selection.best_epoch,
        seconds=seconds,
        opt_state=copied(state.opt_state),
        value=copied(state.value) if isinstance(state, OwnState) else None,
    )


def outcome(result: Run, frozen_hash: str, stopped: Mapping[str, Any] | None) -> dict[str, Any]:
    """What run.json says of a training that is over.

    Args:
        result: of it.
        frozen_hash: of the layers that did not move; "" where none is frozen.
        stopped: where and by whom, if a callback did.
    """
    facts: dict[str, Any] = {
        "metrics": {name: recorded(value) for name, value in result.metrics.items()},
        "parameter_hash": result.parameter_hash,
        "best_epoch": result.best_epoch,
        "seconds": round(result.seconds, 2),
    }
    if frozen_hash:
        facts["frozen_hash_after"] = frozen_hash
    return facts | ({"stopped": stopped} if stopped else {})

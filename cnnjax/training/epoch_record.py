"""What the record of an epoch says, which is a line of metrics.jsonl at its end."""

from __future__ import annotations

from typing import Any

from cnnjax.metrics import divide, recorded
from cnnjax.training.computation import Computation
from cnnjax.training.own_step import State
from cnnjax.training.position import Position
from cnnjax.training.schedules import rate_of_last_step


def record_so_far(
    computation: Computation, position: Position, state: State, step: int
) -> dict[str, Any]:
    """The place of a training, the means over the epoch's examples so far, and the learning rate.

    Args:
        computation: of the training.
        position: with the sums of all steps of the epoch up to this one.
        state: now.
        step: steps of the training that are done.
    """
    schedule = computation.steps.schedule
    means = divide(position.totals, computation.steps.measures)
    record: dict[str, Any] = {"epoch": position.epoch + 1, "step": step}
    record |= {name: recorded(value) for name, value in means.items()}
    if schedule:
        record["learning_rate"] = rate_of_last_step(schedule, state)
    return record


def epoch_record(computation: Computation, position: Position, state: State) -> dict[str, Any]:
    """The record of an epoch at its end, which is validated for it; arguments as above.

    Raises:
        NotFinite: as `Computation.validate` and `check_monitored`.
    """
    record = record_so_far(computation, position, state, int(state.step))
    computation.check_monitored(record, position.step)
    record |= computation.validate(state.variables(), position.step)
    seconds = max(position.seconds, 1e-9)
    record["seconds"] = round(position.seconds, 3)
    record["images_per_second"] = round(position.totals["count"] / seconds, 1)
    record["waiting"] = round(position.data_seconds / seconds, 4)
    return record

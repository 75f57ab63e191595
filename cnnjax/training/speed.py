"""What steps of a training took, against what their device could do."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import jax
import numpy as np

from cnnjax.core.cost import Cost
from cnnjax.core.peaks import Bound, bound, known_peak, measured_peak
from cnnjax.core.table import table

# Of the time of a step: a loop that waits for more of it is bound by its data.
_WAITS = 0.2


class Interval(NamedTuple):
    """One dispatch on its way.

    Args:
        steps: in it.
        waited: seconds for its data.
        began: when the one before had ended.
        ended: when its results were there, in the same clock.
    """

    steps: int
    waited: float
    began: Future[float]
    ended: Future[float]

    @property
    def seconds(self) -> float:
        """That it took, once it has ended."""
        return self.ended.result() - self.began.result()


def figures(
    intervals: Sequence[Interval],
    cost: Cost,
    devices: int,
    batch: int,
    precision: str,
    *,
    loops: bool = False,
) -> dict[str, Any]:
    """What there is to say of steps, as JSON; None is unknown.

    Args:
        intervals: of which there is at least one.
        cost: of a step.
        devices: among which a batch is divided.
        batch: examples of a step.
        precision: as in `TrainingConfig`.
        loops: whether the step has some, of which XLA counts one turn: then there is more to do
            than the cost says.
    """
    each = np.repeat([i.seconds / i.steps for i in intervals], [i.steps for i in intervals])
    total = sum(i.seconds for i in intervals)
    kind = jax.devices()[0].device_kind
    peak = known_peak(kind) or measured_peak(precision)
    limit = bound(cost.flops / devices, cost.moved, peak, precision)
    median, waiting = float(statistics.median(each)), sum(i.waited for i in intervals) / total
    rate, highest = cost.flops / median, peak.of(precision)
    return {
        "device": kind,
        "devices": devices,
        "precision": precision,
        "steps": len(each),
        "step_seconds": median,
        "step_seconds_95": float(np.quantile(each, 0.95)),
        "examples_per_second": batch / median,
        "waiting": waiting,
        "flops": cost.flops,
        "at_least": loops,
        "flops_per_second": rate,
        "peak_flops_per_second": None if highest is None else highest * devices,
        "share_of_peak": None if highest is None else rate / (highest * devices),
        "peak_measured": peak.measured,
        "bytes": cost.moved,
        "bandwidth": peak.bandwidth,
        "bound_seconds": None if limit is None else limit.seconds,
        "bound_by": _bound_by(limit, waiting),
        "step_memory": cost.memory,
        "memory_peak": memory_peak(),
    }


def memory_peak() -> int | None:
    """Most bytes of the device's memory that were in use; of a CPU, of this process.

    None where the system does not count them.
    """
    statistics_of_device = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in statistics_of_device:
        return int(statistics_of_device["peak_bytes_in_use"])
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def text(found: dict[str, Any]) -> str:
    """The figures as a table."""
    several = f", {found['devices']} devices" if found["devices"] > 1 else ""
    of_peak = "peak unknown"
    if found["share_of_peak"] is not None:
        source = "a product measured here" if found["peak_measured"] else "the data sheet"
        peak = _si(found["peak_flops_per_second"], "FLOP/s")
        of_peak = f"{100 * found['share_of_peak']:.1f} % of {peak} ({source})"
    at_least, at_best = "at least " if found["at_least"] else "", "unknown"
    if found["bound_seconds"] is not None:
        at_best = f"{_milliseconds(found['bound_seconds'])} at best"
    most = found["memory_peak"]
    at_peak = "unknown" if most is None else f"{most / 2**20:,.0f} MiB"
    return table(
        [
            ("device", f"{found['device']}, {found['precision']}{several}"),
            (
                "step",
                f"{_milliseconds(found['step_seconds'])} median, "
                f"{_milliseconds(found['step_seconds_95'])} 95th percentile of {found['steps']}",
            ),
            ("examples", f"{found['examples_per_second']:,.0f}/s"),
            ("waiting for data", f"{100 * found['waiting']:.1f} %"),
            ("operations", f"{at_least}{_si(found['flops'], 'FLOP')} a step"),
            ("rate", f"{at_least}{_si(found['flops_per_second'], 'FLOP/s')}, {of_peak}"),
            ("memory traffic", f"{at_least}{_si(found['bytes'], 'B')} a step and device"),
            ("roofline", f"{at_best}, bound by {found['bound_by']}"),
            (
                "memory",
                f"{at_peak} at its peak, {found['step_memory'] / 2**20:,.0f} MiB for a step",
            ),
        ],
        "<",
    )


def _si(value: float, unit: str) -> str:
    """Three digits with the prefix that fits: "1.32 GFLOP"."""
    prefixes = ("", "k", "M", "G", "T", "P")
    power = min(max(int(math.log10(value) // 3), 0), len(prefixes) - 1) if value > 0 else 0
    return f"{value / 1000**power:.3g} {prefixes[power]}{unit}"


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:,.3g} ms"


def _bound_by(limit: Bound | None, waiting: float) -> str:
    if waiting > _WAITS:
        return "waiting for data"
    return "unknown" if limit is None else limit.by

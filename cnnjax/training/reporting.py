"""The report of a run: its curves and figures on a page."""

from __future__ import annotations

import warnings
from pathlib import Path

from cnnjax.core import processes
from cnnjax.core.checks import flag
from cnnjax.runs import RunError, write_report
from cnnjax.training.result import Run


def report(run: Run | str | Path, smoothing: float = 0.0) -> Path:
    """Write report.html into the directory of a run: curves, figures, layers, data and settings.

    Args:
        run: what `fit` returned, or its directory.
        smoothing: of the curves, in [0, 1): of an exponential moving average.

    Returns:
        The path of the page.

    Raises:
        ValueError: for a run that was trained without a directory.
        RunError: if the directory holds no run, or no epoch of it was finished yet.

    >>> import cnnjax as cj
    >>> run = cj.fit(cj.create_model("mlp", units=(8,)), cj.data.load("digits"),
    ...              cj.TrainingConfig(epochs=1), directory="run", verbose=False)
    >>> report(run).name
    'report.html'
    """
    if not isinstance(run, Run):
        return write_report(run, smoothing)
    if run.directory is None:
        raise ValueError(
            "this run kept nothing on disk, and a report is of a run directory: give fit one, "
            "fit(..., directory='runs/first')"
        )
    return write_report(run.directory, smoothing)


def wanted(given: bool, directory: str | Path | None) -> bool:
    """Whether `fit` is to write a report.

    Args:
        given: its `report`.
        directory: of the run.
    """
    return flag("report", given) and directory is not None


def report_of_fit(run: Run, verbose: bool) -> None:
    """The report at the end of `fit`, by the first process; what stops it is a warning.

    The run is finished by then, and stays what it is without its page.
    """
    if not processes.is_first():
        return
    with processes.alone():
        try:
            page = report(run)
        except RunError as error:
            warnings.warn(f"no report was written: {error}", stacklevel=3)
            return
    if verbose:
        print(f"report: {page}")

"""Loggers: they carry the numbers of a training to a table, TensorBoard, or Weights & Biases."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnjax.core.checks import whole_number
from cnnjax.core.places import expanded
from cnnjax.core.storage import write_text
from cnnjax.core.text import plain, without_address


@dataclass(frozen=True)
class Beginning:
    """What a logger is told where a training begins, or goes on.

    Args:
        directory: of the run; None where it has none.
        run_id: of the run, the same where it is resumed; None without a directory.
        config: all that decides the result, as config.json has it.
        resumes: whether lines of the run may be there already.
        step: steps of the training that are done; lines of later ones come once more.
    """

    directory: Path | None = None
    run_id: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    resumes: bool = False
    step: int = 0


class Logger:
    """Carries the numbers of a training away: subclass it and write `log`.

    A run that is killed and resumed comes by some lines twice, with the same numbers: a logger
    leaves out those that it has, or takes those away that come again.

    Attributes:
        every: number of steps of the training, counted from its beginning, from one line to the
            next within an epoch; None: a line at the end of each epoch alone. Each waits for the
            device.
    """

    every: int | None = None

    def start(self, beginning: Beginning) -> None:
        """Called once before the first step."""

    def log(self, record: Mapping[str, Any]) -> None:
        """Take a line, as `Moment.record` has it: "epoch", "step", and the metrics by name."""
        raise NotImplementedError

    def finish(self, status: str, results: Mapping[str, float]) -> None:
        """Called once after the last line, also where there is an error.

        Args:
            status: "finished", "stopped" by a callback, "interrupted" or "failed".
            results: `Run.metrics`; {} where there is no result.
        """


class CSV(Logger):
    """Writes a table with a row a line, which is complete after each.

    Args:
        path: of the file; None takes metrics.csv in the run directory.
        every: as in `Logger`.

    >>> CSV("lines.csv", every=0)
    Traceback (most recent call last):
        ...
    ValueError: every must be a whole number >= 1, got 0
    """

    def __init__(self, path: str | Path | None = None, *, every: int | None = None):
        self.path, self.every = _given(path), _checked_every(every)
        self._file = Path()
        self._rows: list[dict[str, str]] = []
        self._columns: dict[str, None] = {}

    def start(self, beginning: Beginning) -> None:
        """Begin a table, or cut the one of a resumed run back to its checkpoint."""
        self._file = _place(self.path, beginning, "CSV", "metrics.csv")
        self._rows, self._columns = [], {}
        if self._file.exists():
            _check_resumes(self._file, beginning)
            self._rows = [row for row in self._read() if int(row["step"]) <= beginning.step]
            self._columns = dict.fromkeys(k for row in self._rows for k in row)
        self._write()

    def log(self, record: Mapping[str, Any]) -> None:
        """Add a row."""
        row = {name: repr(value) for name, value in scalars(record).items()}
        self._rows.append(row)
        if row.keys() <= self._columns.keys():
            with self._file.open("a", encoding="utf-8", newline="") as file:
                file.write(_csv([row], self._columns))
        else:
            self._columns |= dict.fromkeys(row)
            self._write()

    def _write(self) -> None:
        head = {name: name for name in self._columns}
        write_text(self._file, _csv([head, *self._rows], self._columns))

    def _read(self) -> list[dict[str, str]]:
        with self._file.open(encoding="utf-8", newline="") as file:
            table = list(csv.reader(file))
        head, *rows = table or [[]]
        whole = [dict(zip(head, row, strict=True)) for row in rows if len(row) == len(head)]
        rows_of_steps = [row for row in whole if row.get("step", "").isdigit()]
        if len(rows_of_steps) < len(rows) - 1:  # the last may be cut off by a crash
            raise ValueError(f"{plain(self._file)} is no table of a training: give another path")
        return [{k: v for k, v in row.items() if v} for row in rows_of_steps]


class TensorBoard(Logger):
    """Writes scalars for TensorBoard, by the package tensorboardX.

    What a resumed run writes once more stands in the files twice, with a mark by which TensorBoard
    shows it once.

    Args:
        folder: for the event files; None takes tensorboard in the run directory.
        every: as in `Logger`.

    Raises:
        ValueError: without the package.
    """

    def __init__(self, folder: str | Path | None = None, *, every: int | None = None):
        _check_installed("tensorboardX", "TensorBoard")
        self.folder, self.every = _given(folder), _checked_every(every)
        self._writer: Any = None

    def start(self, beginning: Beginning) -> None:
        """Open a file of events."""
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        folder = _place(self.folder, beginning, "TensorBoard", "tensorboard")
        folder.mkdir(parents=True, exist_ok=True)
        before = len(list(folder.glob("*tfevents*")))
        if before:
            _check_resumes(folder, beginning)
        # Not its SummaryWriter, which writes in the background and would lose lines by a kill. By
        # its name, which begins with the second, a later file is one.
        self._writer = EventsWriter(str(folder / "events"), f".{before:04d}")
        if beginning.resumes:
            self._write(beginning.step + 1, session_log=SessionLog(status=SessionLog.START))

    def log(self, record: Mapping[str, Any]) -> None:
        """Write a scalar for every number."""
        from tensorboardX.summary import scalar

        for name, value in _without_place(record).items():
            self._write(int(record["step"]), summary=scalar(name, value))
        self._writer.flush()

    def finish(self, status: str, results: Mapping[str, float]) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()

    def _write(self, step: int, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._writer.write_event(Event(wall_time=time.time(), step=step, **content))


class WeightsAndBiases(Logger):
    """Sends lines to Weights & Biases, with the run's settings, and its results as the summary.

    The run there has the id of the run here, so that a resumed one goes on in it, and gets no line
    that it has. Lines written with mode="offline" are sent later, by `wandb sync`. W&B keeps them
    in memory for a while: a process that is killed loses those, one that is interrupted or fails
    does not.

    Args:
        project: there.
        every: as in `Logger`.
        settings: further arguments of `wandb.init`, e.g. entity, name, tags, mode.

    Raises:
        ValueError: without the package, or for settings that are this logger's own.
    """

    def __init__(self, project: str | None = None, *, every: int | None = None, **settings: Any):
        _check_installed("wandb", "WeightsAndBiases")
        if own := {"id", "resume", "config"} & settings.keys():
            name = sorted(own)[0]
            raise ValueError(f"{name}={settings[name]!r} is set by the logger: leave it out")
        self.every = _checked_every(every)
        self.settings = {"project": project, **settings}
        self._run: Any = None
        self._kept: Path | None = None  # says which line was the last
        self._last = 0

    def start(self, beginning: Beginning) -> None:
        """Begin a run there, or go on with it."""
        import wandb

        own: dict[str, Any] = {"config": dict(beginning.config)}
        self._last, self._kept = 0, None
        if beginning.directory is not None:
            own |= {"id": beginning.run_id, "dir": str(beginning.directory)}
            self._kept = beginning.directory / "wandb" / "last.json"
            if beginning.resumes and self._kept.exists():
                self._last = int(json.loads(self._kept.read_text(encoding="utf-8"))["step"])
                own["resume"] = "allow"
                _next_second(beginning.directory, beginning.run_id)
        self._run = wandb.init(**{**own, **self.settings})

    def log(self, record: Mapping[str, Any]) -> None:
        """Send the numbers, unless a process before has done so."""
        step = int(record["step"])
        if step <= self._last:
            return
        values = {"epoch": record["epoch"], **_without_place(record)}
        self._run.log(values, step=step, commit=True)  # else it is kept until the next line
        self._last = step
        if self._kept is not None:
            self._kept.parent.mkdir(exist_ok=True)
            write_text(self._kept, json.dumps({"step": step}))

    def finish(self, status: str, results: Mapping[str, float]) -> None:
        """Send results and status."""
        if self._run is not None:
            self._run.summary.update({"status": status, **scalars(results)})
            self._run.finish(exit_code=0 if status in ("finished", "stopped") else 1)


def scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a record; curves and tables are left out."""
    return {k: v for k, v in record.items() if isinstance(v, int | float)}


def check_loggers(loggers: Any) -> tuple[Logger, ...]:
    """The loggers given to `fit`, in their order.

    Raises:
        ValueError: if they are no sequence of loggers.
    """
    given = loggers if isinstance(loggers, Sequence) and not isinstance(loggers, str) else [loggers]
    for logger in given:
        if not isinstance(logger, Logger):
            raise ValueError(
                "loggers must be a sequence of cj.training.loggers.Logger objects, e.g. "
                f"[cj.training.loggers.CSV()], got {plain(without_address(repr(logger)))}"
            )
        _checked_every(logger.every)
    if given is not loggers:
        raise ValueError(f"loggers must be a sequence, e.g. [{type(loggers).__name__}()]")
    return tuple(given)


def _without_place(record: Mapping[str, Any]) -> dict[str, float]:
    return {k: v for k, v in scalars(record).items() if k not in ("epoch", "step")}


def _csv(rows: Sequence[Mapping[str, str]], columns: Mapping[str, None]) -> str:
    text = io.StringIO(newline="")
    if columns:
        csv.DictWriter(text, list(columns), lineterminator="\n").writerows(rows)
    return text.getvalue()


def _next_second(directory: Path, run_id: str | None) -> None:
    """Wait where W&B, which names its folders by second and run, would take one that is there."""
    while any(directory.glob(f"wandb/*run-{time.strftime('%Y%m%d_%H%M%S')}-{run_id}")):
        time.sleep(0.1)


def _given(path: str | Path | None) -> Path | None:
    return None if path is None else expanded(path)


def _place(given: Path | None, beginning: Beginning, name: str, default: str) -> Path:
    if given is not None:
        return given
    if beginning.directory is None:
        raise ValueError(f"{name}() writes into the run directory: give {name}(path) or directory=")
    return beginning.directory / default


def _check_resumes(path: Path, beginning: Beginning) -> None:
    if not beginning.resumes:
        raise ValueError(
            f"{plain(path)} holds the lines of another training: give another path, or remove it"
        )


def _checked_every(every: int | None) -> int | None:
    return None if every is None else whole_number("every", every)


def _check_installed(package: str, name: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f"{name} needs {package}, which is not installed: pip install 'cnnjax[track]'"
        )

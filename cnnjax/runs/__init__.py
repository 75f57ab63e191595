"""Run directories: records, checkpoints, reports, tables of results."""

from cnnjax.runs.checkpoint import CheckpointError, Checkpoints
from cnnjax.runs.contents import holds_run
from cnnjax.runs.directory import RunDirectory
from cnnjax.runs.hub import push
from cnnjax.runs.load import load, save
from cnnjax.runs.report import write_report
from cnnjax.runs.seal import RunError

__all__ = [
    "CheckpointError",
    "Checkpoints",
    "RunDirectory",
    "RunError",
    "holds_run",
    "load",
    "push",
    "save",
    "write_report",
]

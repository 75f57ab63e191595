"""Train what RESULTS.md is made of: a list of commands, one after another or side by side.

The list stands in `_rows.py`. Each command is a process of its own and writes below checkpoints/all
(--out), its output into a .log beside its folder. Whatever is interrupted, this process or one of
the commands, the same call goes on: commands that are done are passed over, an interrupted one
resumes, finished seeds in it stay.

Command:   python -m experiments.train_all [--list] [--only reported] [--jobs 2] [--data-dir DIR]
           [--cats FOLDER] [--weights FOLDER]

On a GPU:  python -m experiments.train_all --gpu --minutes 14 --records records.tar.gz
           --data-dir DIR --cats FOLDER --weights FOLDER

           trains as much as it can within the time, several processes on one GPU; what is not done
           by then is saved, and the records of all finished runs are packed, without weights.
           Elsewhere `tar xf records.tar.gz` and `cnnjax results records --keep docs/records`.

Reported:  what each experiment says. Printed is what is left and about how long it will take, and
           in the end what failed, with exit status 1.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from cnnjax.cli import command
from cnnjax.core.places import expanded
from cnnjax.core.storage import alone, write_file
from cnnjax.core.text import suggest
from cnnjax.recipes import RUNS
from cnnjax.runs.results import keep_records
from experiments._queue import SECONDS_TO_SAVE, Queue
from experiments._rows import GROUPS, ROWS, Row

# What takes a CPU hours comes first where a GPU is at hand.
_ON_GPU = ("long", "reported", "studies")
_GPU_JOBS = 6


@dataclass(frozen=True)
class TrainAllOptions:
    """Options of the queue."""

    only: Annotated[str | None, tyro.conf.arg(metavar="GROUP|TEXT")] = None
    """A group (reported, studies, long) or a part of the commands; default: all of them."""
    list: bool = False
    """Say what is done and what is left, and train nothing."""
    jobs: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Commands side by side, which share the cores; default: 1, with --gpu 6."""
    minutes: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    """End by then, with what runs saved; default: when all is done."""
    gpu: bool = False
    """Several processes share one GPU, whose memory they take as they need it."""
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Where TensorFlow Datasets keeps its data; default: TFDS_DATA_DIR or ~/tensorflow_datasets."""
    cats: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Of cats_vs_dogs_small, with train, validation and test; without it these are left out."""
    weights: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Of files with weights; without it commands that need some are left out."""
    records: Annotated[str | None, tyro.conf.arg(metavar="FILE.tar.gz")] = None
    """Pack the records of all finished runs, at the end."""
    out: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Where to write; default: checkpoints/all."""


def main(options: TrainAllOptions) -> None:
    """List or train.

    Raises:
        ValueError: for options that fit nothing.
        SystemExit: with status 1 if a command failed.
    """
    if options.jobs is not None and options.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {options.jobs}")
    if options.minutes is not None and options.minutes * 60 <= SECONDS_TO_SAVE:
        raise ValueError(
            f"--minutes must be more than {SECONDS_TO_SAVE / 60:.1f}, got {options.minutes:g}"
        )
    queue = _queue_of(options)
    if options.list:
        _show(queue)
        return
    if options.gpu and (found := backend()) == "cpu":
        raise ValueError(f"--gpu needs a GPU, and JAX finds none here: its backend is {found}")
    queue.folder.mkdir(parents=True, exist_ok=True)
    for row in queue.without:
        print(f"left out: {row.command} (needs {queue.wanted(row)})")
    with alone(queue.folder / "lock", lambda: print("another queue is at work here: waiting")):
        queue.say_left()
        queue.run()
    if options.records:
        pack_records(queue.folder, expanded(options.records))
    if queue.failed:
        print("failed:", *(f"  {row.command}" for row in queue.failed), sep="\n", flush=True)
        raise SystemExit(1)
    if queue.interrupted:
        raise KeyboardInterrupt("interrupted: the same call goes on from there")


def backend() -> str:
    """What JAX computes on, asked in another process, which gives the GPU's memory back."""
    text = "import jax; print(jax.default_backend())"
    answer = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=True
    )
    return answer.stdout.strip()


def chosen(only: str | None, rows: Sequence[Row], order: Sequence[str] = GROUPS) -> list[Row]:
    """The rows of a group, or those with a text in their command; None: all of them.

    Args:
        only: a group or a part of a command.
        rows: to choose from.
        order: of the groups.

    Raises:
        ValueError: if there is none.
    """
    found = [row for row in rows if only in (None, row.group)]
    if only is not None and only not in GROUPS:
        found = [row for row in rows if only in row.command]
    if not found:
        names = [*GROUPS, *dict.fromkeys(row.command.split()[0] for row in rows)]
        raise ValueError(f"--only {only} fits no command. {suggest(str(only), names)}")
    return sorted(found, key=lambda row: order.index(row.group))


def pack_records(folder: Path, file: Path) -> None:
    """Pack the records of all finished runs below a folder, as `cnnjax results --keep` has them."""
    with tempfile.TemporaryDirectory() as place:
        kept = keep_records([folder], Path(place) / "records")
        if not kept.is_dir():
            print("no run is finished: there are no records")
            return

        def write(beside: Path) -> None:
            with tarfile.open(beside, "w:gz") as archive:
                archive.add(kept, arcname="records")

        write_file(file, write)
    print(f"records: {file}")


def _queue_of(options: TrainAllOptions) -> Queue:
    places = {
        name: str(expanded(value).absolute())
        for name, value in (("CATS", options.cats), ("WEIGHTS", options.weights))
        if value is not None
    }
    return Queue(
        chosen(options.only, ROWS, _ON_GPU if options.gpu else GROUPS),
        expanded(options.out) if options.out else RUNS / "all",
        options.jobs or (_GPU_JOBS if options.gpu else 1),
        places,
        options.minutes,
        options.gpu,
        str(expanded(options.data_dir).absolute()) if options.data_dir else None,
    )


def _show(queue: Queue) -> None:
    for row in [*queue.rows, *queue.without]:
        state = "done" if queue.done(row) else f"{row.minutes:g} min"
        if row in queue.without:
            state = f"needs {queue.wanted(row)}"
        print(f"{row.group:9} {state:>8}  {row.command}")
    queue.say_left()


if __name__ == "__main__":
    command(main, TrainAllOptions, "train_all")

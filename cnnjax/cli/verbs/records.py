"""Verbs about runs and what they recorded: report, results, reproduce."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg
from tyro.extras import literal_type_from_choices

from cnnjax.cli.options import DataDirectory
from cnnjax.cli.running import show
from cnnjax.cli.verb import RECORDS, Verb
from cnnjax.core.changes import CHANGEABLE
from cnnjax.core.places import Place


@dataclass(frozen=True)
class Report(Verb, task=RECORDS):
    """Write the page of one run again: its curves, figures and settings, as report.html."""

    directory: Annotated[Positional[Place], arg(metavar="RUN")]
    """A run directory."""
    smooth: float = 0.0
    """Of an exponential moving average through the curves, e.g. 0.8; 0: none."""

    def run(self) -> None:
        """Write it."""
        from cnnjax.runs.report import write_report

        show(write_report(self.directory, self.smooth))


@dataclass(frozen=True)
class Results(Verb, task=RECORDS):
    """Gather the records of many runs in one table, RESULTS.md."""

    folders: Annotated[Positional[tuple[Place, ...]], arg(metavar="DIR")] = ("checkpoints",)
    """Run directories or folders of them."""
    out: Annotated[Place, arg(metavar="FILE")] = "RESULTS.md"
    """The file of the table."""
    keep: Annotated[Place | None, arg(metavar="FOLDER")] = None
    """Copy the records there, without places of this machine, and make the tables anew from all
    that it holds then."""
    anew: bool = False
    """The tables hold these runs alone; figures of others move below 'Earlier figures'."""
    least_seeds: int = 1
    """Leave out, and name, rows of fewer seeds."""

    def run(self) -> None:
        """Write it."""
        from cnnjax.runs.results import keep_records, write_results

        least, folders = self.least_seeds, list(self.folders)
        if least < 1:
            raise ValueError(f"--least-seeds must be at least 1, got {least}")
        if self.keep is not None:
            folders = [str(keep_records(folders, self.keep, least_seeds=least))]
        anew = self.anew or self.keep is not None
        show(write_results(folders, self.out, least_seeds=least, anew=anew))


@dataclass(frozen=True)
class Reproduce(Verb, task=RECORDS):
    """Run a record once more and compare every bit; exit status 0 if the same."""

    directory: Annotated[Positional[Place], arg(metavar="RUN")]
    """A run directory."""
    data_dir: DataDirectory = None
    out: Annotated[Place | None, arg(metavar="DIR")] = None
    """Keep the new run there; default: nowhere."""
    allow_changed: Annotated[
        tuple[str, ...],
        arg(constructor=tuple[literal_type_from_choices(CHANGEABLE), ...]),
    ] = ()
    """What may differ from what the run was started with."""
    distributed: bool = False
    """One of several processes that train together, as of an experiment."""

    def run(self) -> None:
        """Run it, and print what differs."""
        from cnnjax.core import processes
        from cnnjax.core.runtime import configure_runtime
        from cnnjax.recipes.reproduce import reproduce

        configure_runtime(distributed=self.distributed)
        comparison = reproduce(
            self.directory,
            data_dir=self.data_dir,
            out=self.out,
            allow_changed=self.allow_changed,
        )
        if processes.is_first():
            print(comparison)
        if not comparison.same:
            raise SystemExit(1)


@dataclass(frozen=True, kw_only=True)
class Push(Verb, task=RECORDS):
    """Upload a run's model to a hub, with a card written from its record."""

    directory: Annotated[Positional[Place], arg(metavar="RUN")]
    """A run directory or a saved model."""
    repository: Annotated[Positional[str], arg(metavar="OWNER/NAME")]
    """Where to; made if there is none. HF_TOKEN or `hf auth login` says who you are."""
    private: bool = False
    """Make a new repository private."""

    def run(self) -> None:
        """Upload it."""
        import cnnjax as cj

        show(cj.push(self.directory, self.repository, private=self.private))

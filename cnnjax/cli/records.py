"""Verbs about runs and what they recorded: report, results, reproduce."""

from __future__ import annotations

import argparse
from typing import Any

from cnnjax.cli.options import place
from cnnjax.cli.running import show
from cnnjax.config import CHANGEABLE


def add(verbs: Any) -> None:
    """Add the verbs of this file to the command's."""
    verb = verbs.add_parser("report", help="write a run's report.html again")
    verb.add_argument("run", type=place, help="a run directory")
    verb.add_argument(
        "--smooth", type=float, default=0.0, metavar="FACTOR",
        help="of an exponential moving average through the curves, e.g. 0.8; default: 0, none",
    )  # fmt: skip
    verb.set_defaults(verb=_report)

    verb = verbs.add_parser("results", help="write the table of results from run records")
    verb.add_argument("folders", nargs="*", default=["checkpoints"], metavar="DIR", type=place,
                      help="run directories or folders of them; default: checkpoints")  # fmt: skip
    verb.add_argument(
        "--out", default="RESULTS.md", metavar="FILE", type=place, help="default: RESULTS.md"
    )
    verb.add_argument(
        "--keep", metavar="FOLDER", type=place,
        help="copy the records there, without places of this machine, and make the tables anew "
        "from all that it holds then",
    )  # fmt: skip
    verb.add_argument(
        "--anew",
        action="store_true",
        help="the tables hold these runs alone; figures of others move below 'Earlier figures'",
    )
    verb.add_argument(
        "--least-seeds", type=int, default=1, metavar="N",
        help="leave out, and name, rows of fewer seeds; default: 1",
    )  # fmt: skip
    verb.set_defaults(verb=_results)

    verb = verbs.add_parser(
        "reproduce", help="run a record once more and compare every bit; exit status 0 if the same"
    )
    verb.add_argument("run", type=place, help="a run directory")
    verb.add_argument("--data-dir", type=place, help="where TensorFlow Datasets keeps its data")
    verb.add_argument(
        "--out", metavar="DIR", type=place, help="keep the new run there; default: nowhere"
    )
    verb.add_argument(
        "--allow-changed", nargs="+", default=(), choices=CHANGEABLE, metavar="PART",
        help="what may differ from what the run was started with: " + ", ".join(CHANGEABLE),
    )  # fmt: skip
    verb.set_defaults(verb=_reproduce)


def _report(options: argparse.Namespace) -> None:
    from cnnjax.runs.report import write_report

    show(write_report(options.run, options.smooth))


def _results(options: argparse.Namespace) -> None:
    from cnnjax.runs.results import keep_records, write_results

    least, folders = options.least_seeds, options.folders
    if least < 1:
        raise ValueError(f"--least-seeds must be at least 1, got {least}")
    if options.keep is not None:
        folders = [keep_records(folders, options.keep, least_seeds=least)]
    anew = options.anew or options.keep is not None
    show(write_results(folders, options.out, least_seeds=least, anew=anew))


def _reproduce(options: argparse.Namespace) -> None:
    from cnnjax.core.runtime import configure_runtime
    from cnnjax.recipes.reproduce import reproduce

    configure_runtime()
    found = reproduce(
        options.run,
        data_dir=options.data_dir,
        out=options.out,
        allow_changed=options.allow_changed,
    )
    print(found)
    if not found.same:
        raise SystemExit(1)

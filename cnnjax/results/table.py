"""The table of results, made from run records and nothing else."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax import paths
from cnnjax.core.places import expanded
from cnnjax.core.text import plain
from cnnjax.metrics import mean_and_deviation, quality
from cnnjax.storage import write_text
from cnnjax.training import RunDirectory, RunError
from cnnjax.training.record import FREE_TO_CHANGE, RUN_FILE, with_defaults
from cnnjax.training.seal import not_understood

_HEADING = """# Results

Accuracy in percent, mean ± standard deviation over the seeds; of the model at the end of the
training, or the best on the validation data where a run monitors it. "Reported" is the figure that
was reported for Keras. "(error)": the mean absolute error of a forecast, in units of the training
part's standard deviation. Every row is made from run records: `cnnjax results checkpoints` writes
the rows of the runs it finds and leaves everything else as it is.

## Figures

## Where and how
"""

_FIGURES = (
    "experiment",
    "recipe",
    "data",
    "seeds",
    "epochs",
    "parameters",
    "training",
    "validation",
    "test",
    "reported",
    "test loss",
    "reported loss",
)
_PROVENANCE = (
    "experiment",
    "recipe",
    "data",
    "seconds per run",
    "machine",
    "jax",
    "commit",
    "command",
)
_KEY = 3  # the first columns of both tables say which row it is


@dataclass(frozen=True)
class Result:
    """Runs of one experiment that differ in their seed only.

    Args:
        runs: the content of their run.json, by seed; each with the epoch of its model, a line of
            its metrics.jsonl, as "epoch", and the number of epochs as "epochs".
    """

    runs: Sequence[Mapping[str, Any]]

    def values(self, key: str) -> list[float]:
        """A metric of every run that has it."""
        return [run["metrics"][key] for run in self.runs if key in run["metrics"]]

    def common(self, *keys: str) -> str:
        """A fact of the runs, found by its path; where they differ all of them."""
        found = []
        for run in self.runs:
            value: Any = run
            for key in keys:
                value = (value or {}).get(key)
            found.append("" if value is None else str(value))
        return ", ".join(dict.fromkeys(found))

    @property
    def key(self) -> tuple[str, str, str]:
        """Experiment, recipe and data: what a row of the table is known by."""
        changed: Mapping[str, Any] = self.runs[0].get("changed") or {}
        recipe = [self.common("recipe"), *(f"{k}={v}" for k, v in changed.items())]
        return (
            self.common("experiment"),
            ", ".join(part for part in recipe if part),
            self.common("data", "train", "name"),
        )


def collect(folders: Iterable[str | Path]) -> list[Result]:
    """The results that lie in or below some folders.

    Args:
        folders: run directories, or folders of them at any depth.

    Returns:
        One per experiment, recipe, data set and settings; runs that are not finished, or belong to
        no experiment, are left out. Of two runs with one seed the newer one counts.

    Raises:
        RunError: if a folder does not exist, a record is damaged, or runs that differ in more than
            the seed would share a row.
    """
    groups: dict[tuple, dict[int, dict[str, Any]]] = defaultdict(dict)
    alike: dict[tuple, dict[str, Any]] = {}
    for folder in folders:
        root = expanded(folder)
        if not root.is_dir():
            raise RunError(f"{root} does not exist or is no folder")
        for file in sorted(root.rglob(RUN_FILE)):
            directory = RunDirectory(file.parent)
            record = directory.read(RUN_FILE)
            if record.get("status") != "finished" or not record.get("experiment"):
                continue
            record, config, epochs = directory.read_whole()
            key, same = _checked(directory, record, config, epochs)
            if lines := _differences(alike.setdefault(key, same), same):
                raise RunError(
                    f"{directory.path} is a run of {' '.join(key)} like others there, but differs "
                    f"in more than the seed ({'; '.join(lines)}): give the folders of one of them "
                    "only"
                )
            before = groups[key].get(record["seed"])
            if before is None or before.get("ended", "") < record.get("ended", ""):
                groups[key][record["seed"]] = record
    return [Result([runs[seed] for seed in sorted(runs)]) for _, runs in sorted(groups.items())]


def write_results(folders: Iterable[str | Path], file: str | Path = "RESULTS.md") -> Path:
    """Write or renew the table of results.

    Args:
        folders: as in `collect`.
        file: a Markdown file; whatever else is in it stays as it is.

    Returns:
        Its path.

    Raises:
        RunError: if no finished run of an experiment is found, or the file is another one.
    """
    results, target = collect(folders), Path(file)
    if not results:
        raise RunError(
            f"no finished run of an experiment in {', '.join(map(str, folders))}: nothing to write"
        )
    text = target.read_text(encoding="utf-8") if target.is_file() else ""
    text = text if text.strip() else _HEADING
    for heading, columns, row in (
        ("Figures", _FIGURES, _figures),
        ("Where and how", _PROVENANCE, _provenance),
    ):
        cells = [[_cell(value) for value in row(result)] for result in results]
        text = _renew(text, heading, columns, cells, target)
    write_text(target, text)
    return target


def spread(values: Sequence[float]) -> str:
    """Fractions as percentages: mean and, of several, standard deviation.

    >>> spread([0.99, 0.98])
    '98.50 ± 0.71'
    """
    return mean_and_deviation(100 * np.asarray(values), 2)


def _errors(values: Sequence[float]) -> str:
    """Absolute errors as they are, in the same form."""
    return f"{mean_and_deviation(values)} (error)" if values else ""


def _figures(result: Result) -> list[str]:
    reported: Mapping[str, float] = result.runs[0].get("reported") or {}
    losses, key = result.values("test_loss"), quality(result.runs[0]["epoch"])
    measured = spread if key == "accuracy" else _errors
    return [
        *result.key,
        _seeds([run["seed"] for run in result.runs]),
        result.common("epochs"),
        f"{result.runs[0].get('parameters', 0):,}",
        measured([run["epoch"][key] for run in result.runs]),
        measured(result.values(f"val_{key}")),
        measured(result.values(f"test_{key}")),
        _reported(reported),
        f"{np.mean(losses):.4f}" if losses else "",
        f"{reported['test_loss']:.4g}" if "test_loss" in reported else "",
    ]


def _reported(figures: Mapping[str, float]) -> str:
    """The test accuracy that was reported; where there is none, that on validation data."""
    if "test_accuracy" in figures:
        return spread([figures["test_accuracy"]])
    known = "val_accuracy" in figures
    return f"{spread([figures['val_accuracy']])} (validation)" if known else ""


def _provenance(result: Result) -> list[str]:
    processes = [p for run in result.runs for p in (run, *run.get("resumed", []))]
    return [
        *result.key,
        f"{np.mean([run['seconds'] for run in result.runs]):.0f}",
        *(
            ", ".join(dict.fromkeys(describe(process) for process in processes))
            for describe in (_machine, _jax, _commit)
        ),
        f"`{_command(result)}`",
    ]


def _machine(process: Mapping[str, Any]) -> str:
    found = process["machine"]
    if found["backend"] == "cpu":
        return f"{found['processor']}, {found['cores']} core{'s' * (found['cores'] != 1)}"
    return f"{found['device_count']} {found['device']}"


def _jax(process: Mapping[str, Any]) -> str:
    return str(process["versions"]["jax"])


def _commit(process: Mapping[str, Any]) -> str:
    code = process["code"]
    return f"{code.get('commit', 'unknown')[:7]}{' (changed)' if code.get('modified') else ''}"


def _command(result: Result) -> str:
    """The command that makes the row again, whatever folders were given then."""
    kept, skip = [], False
    for word in shlex.split(str(result.runs[0]["command"])):
        option = word.partition("=")[0].replace("_", "-")
        if skip:
            skip = False
        elif option in ("--out", "--data-dir", "--seeds", "--seed"):
            skip = "=" not in word
        elif option != "--resume":
            # Of files and folders the name: where they lie is the affair of one machine.
            kept.append(re.sub(r"^(--[\w-]+=)?.*/([^/]+)/*$", r"\1\2", word))
    said, seeds = shlex.join(kept), [run["seed"] for run in result.runs]
    if seeds == list(range(seeds[0], seeds[0] + len(seeds))):
        first = f" --seed {seeds[0]}" if seeds[0] else ""
        return said + first + (f" --seeds {len(seeds)}" if len(seeds) > 1 else "")
    return f"{said} --seed {seeds[0]} (and {', '.join(map(str, seeds[1:]))})"


def _seeds(seeds: Sequence[int]) -> str:
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{len(seeds)} ({seeds[0]} to {seeds[-1]})"
    return f"{len(seeds)} ({', '.join(map(str, seeds))})"


def _checked(
    directory: RunDirectory,
    record: dict[str, Any],
    config: Mapping[str, Any],
    epochs: Sequence[Mapping[str, Any]],
) -> tuple[tuple, dict[str, Any]]:
    """The row of a run, and what all runs of the row have in common; completes the record."""
    try:
        config = with_defaults(config)
        record["epoch"] = epochs[record["best_epoch"] - 1]
        record["epochs"] = len(epochs)
        free = ("seed", *FREE_TO_CHANGE)
        training = {k: v for k, v in config["training"].items() if k not in free}
        same = {
            **config,
            "training": training,
            "examples": {name: part["examples"] for name, part in record["data"].items()},
            # The training part depends on the seed; the test part is the data set's own.
            "test data": record["data"].get("test", {}).get("fingerprint"),
        }
        result = Result([record])
        for row in (_figures, _provenance):
            row(result)
        return result.key, same
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise not_understood(directory.path, error) from error


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    return paths.differences(paths.flatten(first), paths.flatten(second))


def _cell(text: str) -> str:
    """A text that neither a line break nor a bar makes into several, nor a tag into a page."""
    return plain(" ".join(text.split()), 4096).replace("<", "&lt;").replace("|", "\\|")


def _renew(
    text: str, heading: str, columns: Sequence[str], rows: Sequence[Sequence[str]], file: Path
) -> str:
    """The text with the rows put into the table below a heading."""
    lines = text.splitlines()
    try:
        start = [line.strip() for line in lines].index(f"## {heading}") + 1
    except ValueError:
        raise RunError(
            f"{file} has no heading '## {heading}': it is not a table of results that this "
            "command wrote; give another file with --out"
        ) from None
    end = next((i for i in range(start, len(lines)) if lines[i].startswith("#")), len(lines))
    table = [i for i in range(start, end) if lines[i].startswith("|")]
    old = [[c.strip() for c in re.split(r"(?<!\\)\|", lines[i].strip())[1:-1]] for i in table]
    if old and old[0] != list(columns):
        raise RunError(
            f"the table below '## {heading}' in {file} has other columns than this command "
            "writes: move it away, or give another file with --out"
        )
    known = {tuple(cells[:_KEY]): cells for cells in old[2:]}
    known |= {tuple(cells[:_KEY]): list(cells) for cells in rows}
    body = [columns, ["---"] * len(columns), *(known[key] for key in sorted(known))]
    written = [f"| {' | '.join(cells)} |" for cells in body]
    before = lines[: table[0]] if table else [*lines[:start], ""]
    after = lines[table[-1] + 1 :] if table else lines[start:]
    return "\n".join([*before, *written, *after]) + "\n"

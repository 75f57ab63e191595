"""The table of results, made from run records and nothing else."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.storage import write_text
from cnnjax.training import RunDirectory, RunError
from cnnjax.training.record import CONFIG_FILE, RUN_FILE

_HEADING = """# Results

Accuracy in percent, mean ± standard deviation over the seeds; of the model at the end of the
training, or the best on the validation data where a run monitors it. "Reported" is the figure that
was reported for Keras. Every row is made from run records: `cnnjax results checkpoints` writes the
rows of the runs it finds and leaves the others as they are.
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
        runs: the content of their run.json, by seed; each with the last line of its metrics.jsonl
            as "last".
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
        return (
            self.common("experiment"),
            self.common("recipe"),
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
        RunError: if a folder does not exist, or two groups of runs that differ in more than the
            seed would share a row.
    """
    groups: dict[tuple, dict[int, dict[str, Any]]] = defaultdict(dict)
    settings: dict[tuple, dict[str, Any]] = {}
    for folder in folders:
        root = Path(folder).expanduser()
        if not root.is_dir():
            raise RunError(f"{root} does not exist or is no folder")
        for file in sorted(root.rglob(RUN_FILE)):
            directory = RunDirectory(file.parent)
            record = directory.read(RUN_FILE)
            if record.get("status") != "finished" or not record.get("experiment"):
                continue
            record["last"] = directory.epochs()[-1]
            key = Result([record]).key
            config = _without_seed(directory.read(CONFIG_FILE))
            if settings.setdefault(key, config) != config:
                raise RunError(
                    f"{directory.path} is a run of {' '.join(key)} like others there, but with "
                    "other settings: give the folders of one of them only"
                )
            before = groups[key].get(record["seed"])
            if before is None or before["ended"] < record["ended"]:
                groups[key][record["seed"]] = record
    return [Result([runs[seed] for seed in sorted(runs)]) for _, runs in sorted(groups.items())]


def write_results(folders: Iterable[str | Path], file: str | Path = "RESULTS.md") -> Path:
    """Write or renew the table of results.

    Args:
        folders: as in `collect`.
        file: a Markdown file; rows in it of which no run is found stay as they are.

    Returns:
        Its path.

    Raises:
        RunError: if no finished run of an experiment is found.
    """
    results, target = collect(folders), Path(file)
    if not results:
        raise RunError(
            f"no finished run of an experiment in {', '.join(map(str, folders))}: nothing to write"
        )
    old = target.read_text(encoding="utf-8") if target.is_file() else ""
    text = _HEADING
    for heading, columns, row in (
        ("Figures", _FIGURES, _figures),
        ("Where and how", _PROVENANCE, _provenance),
    ):
        rows = {tuple(cells[:_KEY]): cells for cells in _read_table(old, heading)}
        rows |= {tuple(cells[:_KEY]): cells for cells in map(row, results)}
        text += f"\n## {heading}\n\n" + _table(columns, [rows[key] for key in sorted(rows)])
    write_text(target, text)
    return target


def spread(values: Sequence[float]) -> str:
    """Fractions as percentages: mean and, of several, standard deviation.

    >>> spread([0.99, 0.98])
    '98.50 ± 0.71'
    """
    if not values:
        return ""
    mean = f"{100 * np.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * np.std(values, ddof=1):.2f}"


def _figures(result: Result) -> list[str]:
    reported: Mapping[str, float] = result.runs[0].get("reported") or {}
    losses = result.values("test_loss")
    return [
        *result.key,
        _seeds([run["seed"] for run in result.runs]),
        result.common("last", "epoch"),
        f"{result.runs[0].get('parameters', 0):,}",
        spread([run["last"]["accuracy"] for run in result.runs]),
        spread(result.values("val_accuracy")),
        spread(result.values("test_accuracy")),
        spread([reported["test_accuracy"]] if "test_accuracy" in reported else []),
        f"{np.mean(losses):.4f}" if losses else "",
        f"{reported['test_loss']:.4g}" if "test_loss" in reported else "",
    ]


def _provenance(result: Result) -> list[str]:
    seconds = np.mean([run["seconds"] for run in result.runs])
    commits = dict.fromkeys(
        f"{code.get('commit', 'unknown')[:7]}{' (changed)' if code.get('modified') else ''}"
        for code in (run.get("code", {}) for run in result.runs)
    )
    machine = result.common("machine", "processor")
    if result.common("machine", "backend") != "cpu":
        machine = result.common("machine", "device")
    return [
        *result.key,
        f"{seconds:.0f}",
        f"{machine}, {result.common('machine', 'cores')} cores",
        result.common("versions", "jax"),
        ", ".join(commits),
        f"`{_command(result)}`",
    ]


def _command(result: Result) -> str:
    """The command that makes the row again, whatever folders were given then."""
    said = str(result.runs[0].get("command", ""))
    said = re.sub(r" --(out|data-dir|seeds|seed)[ =]\S+", "", said)
    said = re.sub(r" --resume\b", "", said)
    seeds = [run["seed"] for run in result.runs]
    if seeds == list(range(seeds[0], seeds[0] + len(seeds))):
        first = f" --seed {seeds[0]}" if seeds[0] else ""
        return said + first + (f" --seeds {len(seeds)}" if len(seeds) > 1 else "")
    return f"{said} --seed {seeds[0]} (and {', '.join(map(str, seeds[1:]))})"


def _seeds(seeds: Sequence[int]) -> str:
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{len(seeds)} ({seeds[0]} to {seeds[-1]})"
    return f"{len(seeds)} ({', '.join(map(str, seeds))})"


def _without_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    free = ("seed", "resume", "keep", "checkpoint_every")
    training = {k: v for k, v in config["training"].items() if k not in free}
    return {**config, "training": training}


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _read_table(text: str, heading: str) -> list[list[str]]:
    """The rows of the table below a heading."""
    _, _, rest = text.partition(f"## {heading}\n")
    lines = [line for line in rest.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in lines[2:]]

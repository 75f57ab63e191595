"""What a row of the table of results says of its runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnjax.metrics import mean_and_deviation, quality
from cnnjax.runs.record import commit_of, processes

FIGURES = (
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
PROVENANCE = (
    "experiment",
    "recipe",
    "data",
    "seconds per run",
    "machine",
    "jax",
    "commit",
    "command",
)


@dataclass(frozen=True)
class Result:
    """Runs of one experiment that differ in their seed only.

    Args:
        runs: the content of their run.json, by seed; each with the epoch of its model, a line of
            its metrics.jsonl, as "epoch", the number of epochs as "epochs", the seconds of a usual
            one as "epoch_seconds", and the run directory as "folder".
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


def spread(values: Sequence[float]) -> str:
    """Fractions as percentages: mean and, of several, standard deviation.

    >>> spread([0.99, 0.98])
    '98.50 ± 0.71'
    """
    return mean_and_deviation(100 * np.asarray(values), 2)


def _errors(values: Sequence[float]) -> str:
    """Absolute errors as they are, in the same form."""
    return f"{mean_and_deviation(values)} (error)" if values else ""


def figures(result: Result) -> list[str]:
    """The cells of a row of accuracies or errors, as in `FIGURES`."""
    reported: Mapping[str, float] = result.runs[0].get("reported") or {}
    losses, key = result.values("test_loss"), quality(result.runs[0]["epoch"])
    measured = spread if key == "accuracy" else _errors
    return [
        *result.key,
        seeds_in_words([run["seed"] for run in result.runs]),
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


def provenance(result: Result) -> list[str]:
    """The cells of a row on where and how it was made, as in `PROVENANCE`."""
    makers = [process for run in result.runs for process in processes(run)]
    return [
        *result.key,
        f"{np.mean([run['seconds'] for run in result.runs]):.0f}",
        *(
            ", ".join(dict.fromkeys(describe(process) for process in makers))
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
    return commit_of(process, digits=7)


def _command(result: Result) -> str:
    """The command that makes the row again, whatever folders were given then."""
    said = shlex.join(repeatable(str(result.runs[0]["command"])))
    seeds = [run["seed"] for run in result.runs]
    if seeds == list(range(seeds[0], seeds[0] + len(seeds))):
        first = f" --seed {seeds[0]}" if seeds[0] else ""
        return said + first + (f" --seeds {len(seeds)}" if len(seeds) > 1 else "")
    return f"{said} --seed {seeds[0]} (and {', '.join(map(str, seeds[1:]))})"


def repeatable(command: str, *, seeds: bool = False) -> list[str]:
    """The words of a command that say what is computed, not where it is written or read.

    Args:
        command: as a record has it.
        seeds: with those that say which seeds.

    >>> repeatable("python -m experiments.sweep --data ~/pets --out /tmp/a --resume --seeds 3")
    ['python', '-m', 'experiments.sweep', '--data', 'pets']
    """
    dropped = ("--out", "--data-dir", *(() if seeds else ("--seeds", "--seed")))
    kept, skip = [], False
    for word in _as_module(shlex.split(command)):
        option = word.partition("=")[0].replace("_", "-")
        if skip:
            skip = False
        elif option in dropped:
            skip = "=" not in word
        elif option != "--resume":
            kept.append(_name_alone(word))
    return kept


def options_of(command: str) -> str:
    """The options of a command beside seeds and folders: what two calls of a study differ in.

    >>> options_of("python -m experiments.sweep --train-examples 100 --seeds 3 --out /tmp/a")
    '--train-examples 100'
    """
    words = repeatable(command)
    return shlex.join(words[3:] if words[1:2] == ["-m"] else words[2:])


def _as_module(words: Sequence[str]) -> list[str]:
    """A command that ran an experiment as a script, in the form that names no folder of a machine.

    >>> _as_module(["python", "/home/me/cnnjax/experiments/sweep.py", "--seeds", "3"])
    ['python', '-m', 'experiments.sweep', '--seeds', '3']
    """
    script = re.search(r"(?:^|/)(experiments/[\w/]+)\.py$", words[1]) if len(words) > 1 else None
    if script is None:
        return list(words)
    return [words[0], "-m", script[1].replace("/", "."), *words[2:]]


def without_places(command: str) -> str:
    """A command with the names of files and folders alone: where they lie is one machine's affair.

    A script of a checkout keeps its place there.

    >>> without_places("python /home/me/cnnjax/experiments/own_images.py ../pets/ --weights=/w.h5")
    'python experiments/own_images.py pets --weights=w.h5'
    """
    return shlex.join(_name_alone(word) for word in shlex.split(command))


def _name_alone(word: str) -> str:
    if found := re.search(r"(?:^|/)(experiments/(?:.*/)?[^/]+\.py)$", word):
        return found[1]
    return re.sub(r"^(--[\w-]+=)?.*/([^/]+)/*$", r"\1\2", word)


def seeds_in_words(seeds: Sequence[int]) -> str:
    """How many there are, and which.

    >>> seeds_in_words([0, 1, 2]), seeds_in_words([1, 4])
    ('3 (0 to 2)', '2 (1, 4)')
    """
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{len(seeds)} ({seeds[0]} to {seeds[-1]})"
    return f"{len(seeds)} ({', '.join(map(str, seeds))})"

"""Claims judged on the runs of their arms: the rows of the table of claims."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.core.text import suggest
from cnnjax.metrics import mean_and_deviation
from cnnjax.runs.contents import files_below
from cnnjax.runs.results.claims import CLAIMS_FILE, Claim, Measured, command_of, read_claims
from cnnjax.runs.results.paired import Verdict, evaluate
from cnnjax.runs.results.rows import Result, options_of, repeatable, seeds_in_words, spread
from cnnjax.runs.seal import RunError

CLAIMS = (
    "claim",
    "arms",
    "recipe",
    "data",
    "metric",
    "first arm",
    "second arm",
    "pairs",
    "difference",
    "verdict",
    "command",
)

_SIGNIFICANT = 4  # digits of a value whose unit is not known


@dataclass(frozen=True)
class Judged:
    """A claim and what its arms say of it.

    Args:
        claim: it.
        command: that wrote it.
        recipe: of the runs; of values that are measured the options of the command.
        data: of the runs; "" of values that are measured.
        pairs: in words.
        first, second: values of the arms.
        verdict: on them.
    """

    claim: Claim | Measured
    command: str
    recipe: str
    data: str
    pairs: str
    first: Sequence[float]
    second: Sequence[float]
    verdict: Verdict


def judge(
    folders: Iterable[str | Path], results: Sequence[Result]
) -> tuple[list[Judged], list[str]]:
    """Judge all claims that lie in or below some folders.

    Args:
        folders: as for `collect`.
        results: the runs.

    Returns:
        (judged, undecided): a claim may be judged on several data sets or recipes; and a line for
        every claim on runs that are not there.

    Raises:
        RunError: if a file of claims is damaged, or the metric of a claim is none of its runs.
    """
    judged: list[Judged] = []
    missing: list[str] = []
    for claim, facts in _newest(folders):
        written = command_of(facts)
        command = shlex.join(repeatable(written, seeds=True))
        if isinstance(claim, Measured):
            pairs = f"{len(claim.first):,} {claim.pairs}"
            verdict = evaluate(claim, claim.first, claim.second)
            values = claim.first, claim.second
            judged.append(Judged(claim, command, options_of(written), "", pairs, *values, verdict))
            continue
        found = _matching(claim, results)
        if isinstance(found, str):
            missing.append(f"{claim.text.rstrip('.')}: {found}")
        else:
            judged += [_on_runs(claim, command, *arms) for arms in found]
    return judged, missing


def claim_row(judged: Judged) -> list[str]:
    """The cells of a judged claim, as in `CLAIMS`."""
    claim, verdict, show = judged.claim, judged.verdict, _Unit.of(judged)
    metric = claim.metric.replace("_", " ")
    if claim.by:
        metric += f", by more than {show.bound(claim.by)}"
    if claim.within is not None:
        metric += f", alike within {show.bound(claim.within)}"
    bounds = f"{show.difference(verdict.low)} to {show.difference(verdict.high)}"
    return [
        claim.text.rstrip("."),
        _arms(claim),
        judged.recipe,
        judged.data,
        metric,
        show.values(judged.first),
        show.values(judged.second),
        judged.pairs,
        f"{show.difference(verdict.difference)} ({verdict.reason or bounds})",
        verdict.word,
        f"`{judged.command}`",
    ]


def _newest(folders: Iterable[str | Path]) -> list[tuple[Claim | Measured, Mapping[str, Any]]]:
    """The claims of all files, sorted; of two on one thing the one written last.

    Runs know their recipe and data; measured values are of what their command's options say.
    """
    found: dict[tuple[str, ...], tuple[Claim | Measured, Mapping[str, Any]]] = {}
    for file in files_below(folders, CLAIMS_FILE):
        claims, facts = read_claims(file)
        for claim in claims:
            of = options_of(command_of(facts)) if isinstance(claim, Measured) else ""
            key = (_arms(claim), claim.text, claim.metric, of)
            if key not in found or found[key][1].get("time", "") <= facts.get("time", ""):
                found[key] = claim, facts
    return [found[key] for key in sorted(found)]


def _matching(claim: Claim, results: Sequence[Result]) -> list[tuple[Result, Result]] | str:
    """The runs of both arms with one recipe and, where there are such, the same data.

    Returns:
        Pairs of results; or why there are none.
    """
    arms = []
    for name in (claim.first, claim.second):
        arm = [result for result in results if result.key[0] == name]
        if not arm:
            return f"no runs of {name} yet"
        arms.append(arm)
    pairs = [(a, b) for a in arms[0] for b in arms[1] if a.key[1] == b.key[1]]
    same = [(a, b) for a, b in pairs if a.key[2] == b.key[2]]
    if not pairs:
        return f"no runs of {claim.first} and {claim.second} with the same recipe yet"
    # Arms on different data, as photos and their features are, must leave no choice.
    once = len({a.key for a, _ in pairs}) == len({b.key for _, b in pairs}) == len(pairs)
    if not same and not once:
        return f"which data of {claim.first} and {claim.second} belong together is not known"
    chosen = [(a, b) for a, b in same or pairs if _seeds(a) & _seeds(b)]
    return chosen or f"no runs of {claim.first} and {claim.second} with the same seed yet"


def _seeds(result: Result) -> set[int]:
    return {run["seed"] for run in result.runs}


def _on_runs(claim: Claim, command: str, first: Result, second: Result) -> Judged:
    common = sorted(_seeds(first) & _seeds(second))
    ours, theirs = (
        [_value(claim, run) for run in arm.runs if run["seed"] in common] for arm in (first, second)
    )
    try:
        verdict = evaluate(claim, ours, theirs)
    except ValueError as error:
        raise RunError(
            f"the claim {claim.text!r} cannot be judged by {claim.metric}: {error}"
        ) from None
    data = " / ".join(dict.fromkeys((first.key[2], second.key[2])))
    pairs = seeds_in_words(common)
    return Judged(claim, command, first.key[1], data, pairs, ours, theirs, verdict)


def _value(claim: Claim, run: Mapping[str, Any]) -> float:
    measured = {**run["epoch"], **run["metrics"]}
    known: dict[str, float] = {k: v for k, v in measured.items() if not isinstance(v, list)}
    known["parameters"] = run["parameters"]
    if run["epoch_seconds"] is not None:
        known["seconds"] = run["epoch_seconds"]
    later = next((known[k] for k in ("val_accuracy", "test_accuracy") if k in known), None)
    if "accuracy" in known and later is not None:
        known["gap"] = known["accuracy"] - later
    if claim.metric not in known:
        raise RunError(
            f"the claim {claim.text!r} is on {claim.metric!r}, which the runs of "
            f"{run['experiment']} do not have. {suggest(claim.metric, known, 'metrics')}"
        )
    return known[claim.metric]


def _arms(claim: Claim | Measured) -> str:
    """Both arms in words, what their names begin with said once.

    >>> _arms(Claim("Better", "head/cifar10/average", "head/cifar10/flatten", "loss"))
    'head/cifar10: average against flatten'
    """
    if isinstance(claim, Measured):
        return f"{claim.first_name} against {claim.second_name}"
    first, second = claim.first.split("/"), claim.second.split("/")
    common = 0
    while common < min(len(first), len(second)) - 1 and first[common] == second[common]:
        common += 1
    shared = f"{'/'.join(first[:common])}: " if common else ""
    return f"{shared}{'/'.join(first[common:])} against {'/'.join(second[common:])}"


@dataclass(frozen=True)
class _Unit:
    """How values of a metric are shown: fractions in percent, others as they are.

    Args:
        fraction: whether they are fractions.
        digits: behind the point, of values that are not.
    """

    fraction: bool
    digits: int

    @classmethod
    def of(cls, judged: Judged) -> _Unit:
        metric = judged.claim.metric
        largest = float(np.max(np.abs([*judged.first, *judged.second])))
        fraction = (metric == "gap" or "accuracy" in metric) and largest <= 1
        whole = math.floor(math.log10(largest)) + 1 if largest else 1
        exact = all(float(value).is_integer() for value in (*judged.first, *judged.second))
        return cls(fraction, 0 if exact else min(max(_SIGNIFICANT - whole, 0), 8))

    def values(self, values: Sequence[float]) -> str:
        """Mean and deviation; of equal values the value."""
        if self.fraction:
            return spread(values)
        if len(set(values)) == 1:
            return f"{values[0]:,.{self.digits}f}"
        return mean_and_deviation(values, max(self.digits, 1))

    def difference(self, value: float) -> str:
        """With its sign."""
        if self.fraction:
            return f"{100 * value:+.2f}"
        return f"{value:+,.{self.digits + (0 if value.is_integer() else 1)}f}"

    def bound(self, value: float) -> str:
        """A bound of a claim, in the values' unit."""
        if self.fraction:
            return f"{100 * value:g}"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"

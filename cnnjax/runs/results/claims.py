"""What is claimed of two arms of a study, kept in a file beside their runs.

A study names its claims and writes them into its folder; `cnnjax results` finds them there,
evaluates them on the runs and writes what holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cnnjax.core.checks import is_number
from cnnjax.core.places import expanded
from cnnjax.core.storage import text_hash, write_text
from cnnjax.core.text import plain
from cnnjax.runs.record import process_facts
from cnnjax.runs.results.paired import paired
from cnnjax.runs.results.rows import options_of
from cnnjax.runs.seal import RunError, not_understood, read_object, sealed

CLAIMS_FILE = "claims.json"

_LONGEST = 100  # letters of a folder's name

_FORM = {"claims": [dict], "time?": str, "command?": str}


@dataclass(frozen=True)
class Claim:
    """A claim on two arms that are runs of `fit`, paired by seed.

    It holds if the whole 95 % interval of first - second lies above `by`. Where smaller is better
    the worse arm stands first.

    Args:
        text: what is claimed, a sentence.
        first, second: names of the arms' experiments, e.g. "pooling_head/cifar_deep/average".
        metric: of run.json's metrics ("test_accuracy"), or of the line of metrics.jsonl that the
            run's result is of ("accuracy", "val_accuracy"); or "parameters"; or "seconds", the
            median epoch but the first; or "gap", the training accuracy minus that on validation
            data, or test data where there are none. It was measured while training, on images that
            are altered and layers that drop units where the training has such.
        by: by how much the first arm is to exceed the second, in the metric's units.
        within: instead, by how much they are to differ at most: the claim that they are alike.
    """

    text: str
    first: str
    second: str
    metric: str
    by: float = 0.0
    within: float | None = None

    def __post_init__(self) -> None:
        _check(self, ("text", "first", "second", "metric"))
        if self.first == self.second:
            raise ValueError(f"first and second must be two experiments, got {self.first!r} twice")


@dataclass(frozen=True)
class Measured:
    """A claim on paired values of any kind: one pair a seed, an image, a layer.

    Args:
        text: what is claimed, a sentence.
        first_name, second_name: of the arms, e.g. "max pooling".
        first, second: finite values of either, as many; those of a pair at the same place.
        pairs: what there is a pair of, e.g. "photos".
        metric: what the values are, e.g. "share of high frequencies".
        by, within: as for `Claim`.
    """

    text: str
    first_name: str
    first: Sequence[float]
    second_name: str
    second: Sequence[float]
    pairs: str
    metric: str
    by: float = 0.0
    within: float | None = None

    def __post_init__(self) -> None:
        _check(self, ("text", "first_name", "second_name", "pairs", "metric"))
        for name, values in zip(("first", "second"), paired(self.first, self.second), strict=True):
            object.__setattr__(self, name, tuple(values.tolist()))
        if not self.first:
            raise ValueError("first and second must hold at least one pair of values, got none")


def write_claims(folder: str | Path, claims: Sequence[Claim | Measured]) -> Path:
    """Keep claims, with the facts of this process, where `cnnjax results` finds them.

    Args:
        folder: of the study; it is made if needed.
        claims: of it, no two with one text.

    Returns:
        The path of its claims.json, which is complete or as it was before. Those that a call with
        other options wrote stay: these go into a folder beside then.

    Raises:
        ValueError: if there is none, or two have the same text.
        RunError: if the claims that are there are damaged.
    """
    if not claims:
        raise ValueError("claims must hold at least one claim, got none")
    texts = [claim.text for claim in claims]
    if twice := next((text for text in texts if texts.count(text) > 1), None):
        raise ValueError(f"claims must differ in their text, got {twice!r} twice")
    facts = process_facts()
    file = claims_file(expanded(folder), command_of(facts))
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {**facts, "claims": [asdict(claim) for claim in claims]}
    write_text(file, sealed(content))
    return file


def claims_file(folder: Path, command: str) -> Path:
    """Where a command's claims belong in a folder: those of other options stand beside them."""
    file, options = folder / CLAIMS_FILE, options_of(command)
    if file.is_file() and options_of(command_of(read_claims(file)[1])) != options:
        return folder / (file_name(options) or "_") / CLAIMS_FILE
    return file


def command_of(facts: Mapping[str, Any]) -> str:
    """That wrote claims with such facts; "" where it is not known."""
    return str(facts.get("command") or "")


def file_name(text: str) -> str:
    """A text as part of a file's name.

    >>> file_name("cifar10 3.0.2 train, JPEG, 80 %")
    'cifar10-3.0.2-train-JPEG-80'
    """
    name = re.sub(r"[^A-Za-z0-9_.=]+", "-", text).strip("-.")
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 9]}-{text_hash(text)[:8]}"


def read_claims(file: str | Path) -> tuple[list[Claim | Measured], dict[str, Any]]:
    """The claims of a claims.json, and the facts of the process that wrote them.

    Raises:
        RunError: if there is no such file, or it is damaged or was changed.
    """
    path = expanded(file)
    try:
        content = read_object(path, _FORM)
    except FileNotFoundError:
        raise RunError(f"{plain(path)} does not exist") from None
    try:
        claims = [_made(entry) for entry in content.pop("claims")]
        options_of(command_of(content))
    except (LookupError, TypeError, ValueError) as error:
        raise not_understood(path, error) from error
    return claims, content


def _made(entry: Mapping[str, Any]) -> Claim | Measured:
    kind = Measured if "pairs" in entry else Claim
    return kind(**entry)


def _check(claim: Claim | Measured, texts: Sequence[str]) -> None:
    for name in texts:
        text = getattr(claim, name)
        if not isinstance(text, str) or not text.strip() or "\n" in text:
            raise ValueError(f"{name} must be a text of one line, got {text!r}")
    if not is_number(claim.by):
        raise ValueError(f"by must be a finite number, got {claim.by!r}")
    if claim.within is None:
        return
    if not is_number(claim.within) or claim.within <= 0:
        raise ValueError(f"within must be a number above 0 or None, got {claim.within!r}")
    if claim.by:
        raise ValueError(f"by={claim.by!r} must be 0 where within is given, as it is not used then")

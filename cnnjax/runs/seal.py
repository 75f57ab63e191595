"""What makes a change of a run's records show: seals within the files, and what they must hold.

run.json holds a digest of itself, its seal, the hash of config.json, and an id that every
checkpoint holds as well; the seal of a line of metrics.jsonl is a digest of the line and of the
seal before it, the first one's of the id; a run that has ended holds the last of them. config.json
repeats model.json, which names its vocabulary by hash. Records of versions without seals hold no
id, and are taken as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.core.reading import Unreadable, check_form, parse_json, read_bytes
from cnnjax.core.storage import text_hash
from cnnjax.core.text import plain

ID, SEAL = "run_id", "seal"

# Whatever the readers rely on; records of older versions lack some of it.
_PROCESS = {
    "versions?": dict,
    "machine?": dict,
    "code?": {"commit?": str, "sources?": str, "modified?": bool},
}
RUN_FORM = {
    "status?": str,
    **_PROCESS,
    "resumed?": [_PROCESS],
    "command?": str,
    "started?": str,
    "ended?": str,
    "config_hash?": str,
    "initial_hash?": str,
    "frozen_hash?": str,
    "seed?": int,
    "parameters?": int,
    "best_epoch?": int,
    "seconds?": float,
    "data?": {"*": {"name?": str, "examples?": int, "fingerprint?": str}},
    "source?": dict,
    "metrics?": {"*": float},
    "reported?": {"*": float},
    "changed?": dict,
}
CONFIG_FORM = {
    "training?": {"augment?": (dict, str)},
    "model?": dict,
    "loss?": str,
    "opt_state?": str,
}
EPOCH_FORM = {SEAL + "?": str, "*": float}

# Of a run that has ended: how many epochs there are, and the seal of the last.
ENDED_WITH = "ended_with"


class RunError(ValueError):
    """A run directory that is missing, foreign, in use for another run, or damaged."""


def json_text(content: Mapping[str, Any]) -> str:
    """JSON as the records of a run hold it.

    Raises:
        ValueError: for what JSON does not know.
    """
    return json.dumps(content, indent=1, default=_plain) + "\n"


def sealed(content: Mapping[str, Any]) -> str:
    """JSON that ends with its seal, a digest of all else."""
    body = {k: v for k, v in content.items() if k != SEAL}
    return json_text({**body, SEAL: text_hash(json_text(body))})


def read_object(path: Path, form: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """A JSON object of a run directory, and the bytes it was read from.

    Raises:
        FileNotFoundError: if there is no such file.
        RunError: if it is not readable, or is sealed and was changed.
    """
    try:
        text = read_bytes(path, "record")
    except Unreadable as error:
        raise RunError(str(error)) from None
    try:
        content = parse_json(text)
    except ValueError as error:
        raise RunError(f"{plain(path)} cannot be read: {plain(error)}") from None
    if not isinstance(content, dict):
        raise RunError(f"{plain(path)} is not a run's {path.name}")
    if {ID, SEAL} & content.keys():
        if sealed(content).encode() != text:
            raise changed(path)
        return content, text  # what we wrote needs no further look
    try:
        check_form(content, dict(form))
    except ValueError as error:
        raise RunError(f"{plain(path)} is not a run's {path.name}: {error}") from None
    return content, text


def changed(path: Path, line: int | None = None) -> RunError:
    """What is not as it was written."""
    where = f" in line {line}" if line is not None else ""
    return RunError(
        f"{plain(path)} was changed{where} since the run wrote it: put back what was there, or "
        "start again in another directory"
    )


def not_understood(path: Path, error: Exception) -> RunError:
    """A record that lacks what a reader needs, or has it in another form."""
    return RunError(
        f"the record of {path} is damaged, or of another version of cnnjax: "
        f"{type(error).__name__}: {error}"
    )


def epoch_line(record: Mapping[str, Any], previous: str) -> tuple[str, str]:
    """A line of metrics.jsonl without its end, and its seal.

    Args:
        record: of the epoch.
        previous: the seal of the line before, or the run's id; "" makes a line without a seal.
    """
    if not previous:
        return json.dumps(record), ""
    seal = text_hash(f"{previous} {json.dumps(record)}")
    return json.dumps({**record, SEAL: seal}), seal


def read_epochs(path: Path, run_id: str) -> tuple[list[dict[str, Any]], str]:
    """The epochs of metrics.jsonl, and the seal of the last; one cut off by a crash is left out.

    Args:
        path: of the file; where there is none, there is no epoch.
        run_id: of the run; "" for one whose lines have no seals.

    Raises:
        RunError: if another line is damaged, or is not what the run wrote there.
    """
    try:
        lines = read_bytes(path, "record").split(b"\n")
    except FileNotFoundError:
        lines = []
    except Unreadable as error:
        raise RunError(str(error)) from None
    records: list[dict[str, Any]] = []
    last = run_id
    for number, line in enumerate(lines, start=1):
        if not line.strip() and (not run_id or number == len(lines)):
            continue
        try:
            record = parse_json(line)
            check_form(record, {} if run_id else EPOCH_FORM)
        except ValueError as error:
            if number == len(lines):  # not ended by a newline: its writing was cut off
                break
            raise RunError(
                f"{plain(path)} is damaged in line {number}: it holds no epoch ({plain(error)})"
            ) from None
        body = {k: v for k, v in record.items() if k != SEAL}
        expected, last = epoch_line(body, last)
        if expected.encode() != line and (run_id or SEAL in record):
            raise changed(path, number)
        records.append(body)
    return records, last


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays, which JSON does not know."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise ValueError(f"a record takes numbers, texts and lists, got {value!r}")

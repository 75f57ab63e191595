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


def read_object(path: Path, form: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object of a run directory.

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
        return content  # what we wrote needs no further look
    try:
        check_form(content, dict(form))
    except ValueError as error:
        raise RunError(f"{plain(path)} is not a run's {path.name}: {error}") from None
    return content


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


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays, which JSON does not know."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise ValueError(f"a record takes numbers, texts and lists, got {value!r}")

"""The epochs of a run: metrics.jsonl, a line for each, sealed one by one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cnnjax.core.reading import Unreadable, check_form, parse_json, read_bytes
from cnnjax.core.storage import text_hash
from cnnjax.core.text import plain
from cnnjax.runs.record import unwritable, write_record_file
from cnnjax.runs.seal import SEAL, RunError, changed

_FORM = {SEAL + "?": str, "*": float}


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
            check_form(record, {} if run_id else _FORM)
        except ValueError as error:
            if number == len(lines):  # not ended by a newline: its writing was cut off
                break
            raise RunError(
                f"{plain(path)} is damaged in line {number}: it holds no epoch ({plain(error)})"
            ) from None
        body = {k: v for k, v in record.items() if k != SEAL}
        expected, last = _line(body, last)
        if expected.encode() != line and (run_id or SEAL in record):
            raise changed(path, number)
        records.append(body)
    return records, last


def append_epoch(path: Path, record: Mapping[str, Any], previous: str) -> str:
    """Add a line to metrics.jsonl.

    Args:
        path: of the file.
        record: of the epoch.
        previous: the seal of the line before, or the run's id; "" makes a line without a seal.

    Returns:
        Its seal.

    Raises:
        RunError: if it cannot be written, as on a full disk.
    """
    line, seal = _line(record, previous)
    try:
        with open(path, "ab") as file:
            end = file.tell()
            try:
                file.write(f"{line}\n".encode())
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.truncate(path, end)  # no half a line stays
                raise
    except OSError as error:
        raise unwritable(path, error) from None
    return seal


def write_epochs(path: Path, records: Iterable[Mapping[str, Any]], run_id: str) -> str:
    """Write metrics.jsonl anew; returns the seal of the last line.

    Raises:
        RunError: if it cannot be written.
    """
    text, seal = "", run_id
    for record in records:
        line, seal = _line(record, seal)
        text += f"{line}\n"
    write_record_file(path, text)
    return seal


def _line(record: Mapping[str, Any], previous: str) -> tuple[str, str]:
    """A line without its end, and its seal."""
    if not previous:
        return json.dumps(record), ""
    seal = text_hash(f"{previous} {json.dumps(record)}")
    return json.dumps({**record, SEAL: seal}), seal

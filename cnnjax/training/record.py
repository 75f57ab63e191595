"""The run directory: config.json, run.json, metrics.jsonl, model.json, checkpoints/."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cnnjax import paths
from cnnjax.runtime import machine, versions
from cnnjax.storage import write_text

CONFIG_FILE, RUN_FILE, METRICS_FILE = "config.json", "run.json", "metrics.jsonl"
CHECKPOINTS = "checkpoints"

# May differ between a run and its resumption.
_FREE_TO_CHANGE = ("resume", "keep", "checkpoint_every")


class RunError(ValueError):
    """A run directory that is missing, foreign, in use for another run, or damaged."""


class RunDirectory:
    """Reads and writes the files of one run, all but the checkpoints.

    Args:
        path: of the directory.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser().absolute()

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.path / CHECKPOINTS

    def holds_run(self) -> bool:
        """Whether a run was started here."""
        return (self.path / RUN_FILE).is_file()

    def start(self, config: Mapping[str, Any], facts: Mapping[str, Any], *, resume: bool) -> None:
        """Claim the directory for a new run, or check that it holds the run to resume.

        Raises:
            RunError: if it holds another run or foreign files.
        """
        history: dict[str, Any] = {"started": _now(), "command": _command()}
        if self.holds_run():
            if not resume:
                raise RunError(
                    f"{self.path} already holds a run: choose another directory, or go on with it "
                    "(TrainingConfig(resume=True), on the command line --resume)"
                )
            before = self.read(RUN_FILE)
            self._check_same(config)
            self._check_same_data(before.get("data", {}), facts.get("data", {}))
            history = {
                "started": before.get("started"),
                "command": before.get("command"),
                "resumed": [*before.get("resumed", []), {"at": _now(), "command": _command()}],
            }
        elif self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file, not a directory")
        elif self.path.is_dir() and any(self.path.iterdir()):
            raise RunError(f"{self.path} is not empty and holds no run: choose another directory")
        self.path.mkdir(parents=True, exist_ok=True)
        _write_json(self.path / CONFIG_FILE, config)
        record = {
            "status": "running",
            **history,
            "versions": versions(),
            "machine": machine(),
            "code": code_version(),
            **facts,
        }
        _write_json(self.path / RUN_FILE, record)

    def finish(self, status: str, **facts: Any) -> None:
        """Note how the run ended and what came of it."""
        record = self.read(RUN_FILE)
        _write_json(self.path / RUN_FILE, {**record, "status": status, "ended": _now(), **facts})

    def append(self, record: Mapping[str, Any]) -> None:
        """Add an epoch to metrics.jsonl."""
        with open(self.path / METRICS_FILE, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def epochs(self) -> list[dict[str, Any]]:
        """The epochs in metrics.jsonl; a last line cut off by a crash is left out."""
        file = self.path / METRICS_FILE
        records = []
        if file.is_file():
            for line in file.read_text().splitlines():
                try:
                    records.append(json.loads(line))
                except json.JSONDecodeError:
                    break
        return records

    def truncate(self, epochs: int) -> list[dict[str, Any]]:
        """Cut metrics.jsonl back to so many epochs, those of the checkpoint; returns them."""
        records = self.epochs()[:epochs]
        text = "".join(json.dumps(r) + "\n" for r in records)
        write_text(self.path / METRICS_FILE, text)
        return records

    def read(self, name: str) -> dict[str, Any]:
        """One of the JSON files.

        Raises:
            RunError: if there is none or it is not readable.
        """
        try:
            content = json.loads((self.path / name).read_text())
        except FileNotFoundError:
            raise RunError(
                f"{self.path} is not a run directory: it has no {name}"
                if self.path.is_dir()
                else f"run directory {self.path} does not exist"
            ) from None
        except (OSError, ValueError) as error:
            raise RunError(f"{self.path / name} cannot be read: {error}") from None
        if not isinstance(content, dict):
            raise RunError(f"{self.path / name} is not a run's {name}")
        return content

    def _check_same(self, config: Mapping[str, Any]) -> None:
        before = paths.flatten(self.read(CONFIG_FILE))
        now = paths.flatten(json.loads(json.dumps(config)))
        free = {k for k in {*before, *now} if k.rpartition("/")[2] in _FREE_TO_CHANGE}
        # A constant rate does not depend on the end, so such a training may be prolonged.
        if now.get("training/schedule") == "constant":
            free.add("training/epochs")
        lines = paths.differences(
            {k: v for k, v in before.items() if k not in free},
            {k: v for k, v in now.items() if k not in free},
        )
        if lines:
            raise RunError(
                f"{self.path} holds a run with other settings ({'; '.join(lines)}): resume with "
                "the same ones, or choose another directory"
            )

    def _check_same_data(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        lines = paths.differences(paths.flatten(before), paths.flatten(now))
        if lines:
            raise RunError(
                f"{self.path} was started on other data ({'; '.join(lines)}): resume with the "
                "same, or choose another directory"
            )


def code_version() -> dict[str, Any]:
    """The git commit of the code that runs and whether it was changed; {} outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    commands = (
        ["rev-parse", "--show-toplevel"],
        ["rev-parse", "HEAD"],
        ["status", "--porcelain", "--", "cnnjax", "experiments"],
    )
    try:
        answers = [
            subprocess.run(
                ["git", "-C", str(root), *arguments],
                check=False,
                capture_output=True,
                text=True,
                timeout=10,
            )
            for arguments in commands
        ]
    except (OSError, subprocess.TimeoutExpired):
        return {}
    top, commit, status = (answer.stdout.strip() for answer in answers)
    # Installed below another project's checkout, that project's commit would mean nothing.
    if any(answer.returncode for answer in answers) or Path(top) != root:
        return {}
    return {"commit": commit, "modified": bool(status)}


def _command() -> str:
    return " ".join(["python", *sys.orig_argv[1:]])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=1) + "\n")

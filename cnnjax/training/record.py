"""The run directory: config.json, run.json, metrics.jsonl, model.json, checkpoints/."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from cnnjax import paths
from cnnjax.config import AugmentConfig, TrainingConfig, to_dict
from cnnjax.models import ModelSpec
from cnnjax.runtime import code_version, machine, versions
from cnnjax.storage import text_hash, write_text
from cnnjax.training.optim import OPTIMIZER_SETTINGS

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

CONFIG_FILE, RUN_FILE, METRICS_FILE = "config.json", "run.json", "metrics.jsonl"
CHECKPOINTS = "checkpoints"

# May differ between a run and its resumption.
FREE_TO_CHANGE = ("resume", "keep", "checkpoint_every")

# What stands as the optimizer in the settings of a run that was given one.
GIVEN = "given by the caller"


class RunError(ValueError):
    """A run directory that is missing, foreign, in use for another run, or damaged."""


class RunDirectory:
    """Reads and writes the files of one run, all but the checkpoints.

    Args:
        path: of the directory.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser().absolute()
        self._locked: int | None = None

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.path / CHECKPOINTS

    def holds_run(self) -> bool:
        """Whether a run was started here."""
        return any((self.path / name).is_file() for name in (RUN_FILE, CONFIG_FILE))

    def start(self, config: Mapping[str, Any], facts: Mapping[str, Any], *, resume: bool) -> None:
        """`check`, then `claim`."""
        self.check(config, facts, resume=resume)
        try:
            self.claim(config, facts)
        except BaseException:
            self.release()
            raise

    def check(self, config: Mapping[str, Any], facts: Mapping[str, Any], *, resume: bool) -> None:
        """Check that a run may write here, and changes nothing but taking the lock.

        Args:
            config: everything that decides the result.
            facts: with the data's fingerprints as "data".
            resume: whether the run that is here may be gone on with.

        Raises:
            RunError: if the directory holds another run or foreign files, or is in use.
        """
        config_text, facts_text = _json(config), _json(facts)  # what cannot be recorded fails here
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file, not a directory")
        if self.holds_run():
            if not resume:
                raise RunError(
                    f"{self.path} already holds a run: choose another directory, or go on with it "
                    "(TrainingConfig(resume=True), on the command line --resume)"
                )
            self._lock()
            if (self.path / RUN_FILE).is_file():
                self._check_same(json.loads(config_text))
                before = self.read(RUN_FILE).get("data", {})
                self._check_same_data(before, json.loads(facts_text).get("data", {}))
        elif self.path.is_dir() and any(self.path.iterdir()):
            raise RunError(f"{self.path} is not empty and holds no run: choose another directory")
        else:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock()

    def claim(self, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Write config.json and run.json: from here on the directory is this run's.

        Of a run that is resumed the record keeps how it began, and adds the process that goes on.

        Raises:
            RunError: if they cannot be written.
        """
        process = {
            "command": _command(),
            "versions": versions(),
            "machine": machine(),
            "code": code_version(),
        }
        history: dict[str, Any] = {"started": _now(), **process}
        if (self.path / RUN_FILE).is_file():
            before = self.read(RUN_FILE)
            resumed = [*before.get("resumed", []), {"at": _now(), **process}]
            history = {k: before.get(k) for k in history} | {"resumed": resumed}
            facts = {**facts, "initial_hash": before.get("initial_hash")}
        config_text = _json(config)
        record = {
            "status": "running",
            **history,
            "config_hash": text_hash(config_text),
            **facts,
        }
        texts = {CONFIG_FILE: config_text, RUN_FILE: _json(record)}
        for name, text in texts.items():
            self._write(name, text)

    def initial_hash(self) -> str | None:
        """Of the weights that the run began with; None where the record is lost."""
        if not (self.path / RUN_FILE).is_file():
            return None
        return self.read(RUN_FILE).get("initial_hash")

    def release(self) -> None:
        """Let other processes use the directory."""
        if self._locked is not None:
            os.close(self._locked)
            self._locked = None

    def _lock(self) -> None:
        """Hold the directory until `release` or the end of the process."""
        if fcntl is None:
            return
        self._locked = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise RunError(f"{self.path} is in use: another process trains there") from None
        except OSError:  # a file system without locks
            pass

    def finish(self, status: str, **facts: Any) -> None:
        """Note how the run ended and what came of it, and let others use the directory.

        Raises:
            RunError: if run.json is lost or cannot be written.
        """
        try:
            ended = {**self.read(RUN_FILE), "status": status, "ended": _now(), **facts}
            self._write(RUN_FILE, _json(ended))
        finally:
            self.release()

    def append(self, record: Mapping[str, Any]) -> None:
        """Add an epoch to metrics.jsonl.

        Raises:
            RunError: if it cannot be written, as on a full disk.
        """
        path = self.path / METRICS_FILE
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(path, error) from None

    def epochs(self) -> list[dict[str, Any]]:
        """The epochs in metrics.jsonl; a last line cut off by a crash is left out.

        Raises:
            RunError: if another line is damaged.
        """
        file = self.path / METRICS_FILE
        records: list[dict[str, Any]] = []
        lines = file.read_bytes().split(b"\n") if file.is_file() else []
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line) if line.strip() else None
            except ValueError:
                if number == len(lines):  # not ended by a newline: its writing was cut off
                    break
                record = line
            if isinstance(record, dict):
                records.append(record)
            elif record is not None:
                raise RunError(f"{file} is damaged in line {number}: it holds no epoch")
        return records

    def truncate(self, epochs: int) -> list[dict[str, Any]]:
        """Cut metrics.jsonl back to so many epochs, those of the checkpoint; returns them.

        Raises:
            RunError: if it holds fewer.
        """
        records = self.epochs()[:epochs]
        if len(records) < epochs:
            raise RunError(
                f"{self.path / METRICS_FILE} holds {len(records)} epochs, but the checkpoint has "
                f"seen {epochs}: put the file back, or start again in another directory"
            )
        self._write(METRICS_FILE, "".join(json.dumps(r) + "\n" for r in records))
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

    def _write(self, name: str, text: str) -> None:
        try:
            write_text(self.path / name, text)
        except OSError as error:
            raise _unwritable(self.path / name, error) from None

    def _check_same(self, config: Mapping[str, Any]) -> None:
        before = paths.flatten(with_defaults(self.read(CONFIG_FILE)))
        now = paths.flatten(with_defaults(config))
        free = {k for k in {*before, *now} if k.rpartition("/")[2] in FREE_TO_CHANGE}
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
        # The name is no part of it: the same pictures may have been called otherwise.
        old, new = (
            {k: v for k, v in paths.flatten(data).items() if not k.endswith("/name")}
            for data in (before, now)
        )
        if lines := paths.differences(old, new):
            raise RunError(
                f"{self.path} was started on other data ({'; '.join(lines)}): resume with the "
                "same, or choose another directory"
            )


def with_default_settings(training: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded settings, in which what has been added since stands at its default."""
    defaults = json.loads(_json(to_dict(TrainingConfig())))
    if training.get("optimizer") == GIVEN:
        defaults.update(dict.fromkeys(OPTIMIZER_SETTINGS))
    settings = {**defaults, **training}
    if isinstance(settings["augment"], Mapping):
        augment = json.loads(_json(to_dict(AugmentConfig())))
        settings["augment"] = {**augment, **settings["augment"]}
    return settings


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's configuration, in which what has been added since stands at its default."""
    fields = {f.name: f.default for f in dataclasses.fields(ModelSpec)}
    known = {k: v for k, v in fields.items() if v is not dataclasses.MISSING}
    return {
        **config,
        "training": with_default_settings(config.get("training", {})),
        "model": {**json.loads(_json(known)), **config.get("model", {})},
    }


def _unwritable(path: Path, error: OSError) -> RunError:
    return RunError(f"{path} cannot be written ({error.strerror}): mend that and resume")


def _command() -> str:
    return shlex.join(["python", *sys.orig_argv[1:]])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays, which JSON does not know."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise ValueError(f"a record takes numbers, texts and lists, got {value!r}")

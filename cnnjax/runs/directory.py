"""The run directory: config.json, run.json, metrics.jsonl, model.json, checkpoints/."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from cnnjax.augment.config import AugmentConfig
from cnnjax.config import FILES, OPTIMIZER, TrainingConfig, to_dict
from cnnjax.core import trees
from cnnjax.core.places import expanded
from cnnjax.core.reading import Unreadable, read_json
from cnnjax.core.runtime import code_version, machine, versions
from cnnjax.core.settings import names
from cnnjax.core.storage import is_remains, sweep, text_hash, write_text
from cnnjax.core.text import plain
from cnnjax.models import ModelSpec, UnreadableModel
from cnnjax.models.saved import MODEL_FILE, VOCABULARY_FILE
from cnnjax.runs.caller import caller
from cnnjax.runs.seal import (
    CONFIG_FORM,
    ENDED_WITH,
    ID,
    RUN_FORM,
    SEAL,
    RunError,
    changed,
    epoch_line,
    json_text,
    read_epochs,
    read_object,
    sealed,
)

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

CONFIG_FILE, RUN_FILE, METRICS_FILE = "config.json", "run.json", "metrics.jsonl"
CHECKPOINTS = "checkpoints"
_FORMS: dict[str, dict[str, Any]] = {RUN_FILE: RUN_FORM, CONFIG_FILE: CONFIG_FORM}
_OWN = (CONFIG_FILE, RUN_FILE, METRICS_FILE, MODEL_FILE, VOCABULARY_FILE, "report.html")

# Hashes of config.json: the present one, and, from a resumption to the end, the one before it,
# with the model.json of that time.
CONFIG_HASH, _CONFIG_BEFORE, _MODEL_BEFORE = "config_hash", "config_hash_before", "model_before"

# How often a reader starts again where a writer replaced what it had read.
_TRIES = 5

# Functions of the caller's stand there by a name, which depends on who imports them, and by which
# the identity of the run does not know them.
_FUNCTIONS = ("loss", "training/augment")

# What stands as the optimizer in the settings of a run that was given one.
GIVEN = "given by the caller"


class RunDirectory:
    """Reads and writes the files of one run, all but the checkpoints.

    Args:
        path: of the directory.
    """

    def __init__(self, path: str | Path):
        self.path = expanded(path).absolute()
        # Of the run that is written here: "" where an older version began it, which gave no ids;
        # None where that is not known.
        self.id: str | None = None
        self._last: str | None = None  # the seal of the last line of metrics.jsonl
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

    def check(
        self,
        config: Mapping[str, Any],
        facts: Mapping[str, Any],
        *,
        resume: bool,
        allowed: Sequence[str] = (),
    ) -> None:
        """Check that a run may write here; changes nothing but taking the lock and sweeping.

        Args:
            config: everything that decides the result.
            facts: with the data's fingerprints as "data".
            resume: whether the run that is here may be gone on with.
            allowed: names of `TrainingConfig.allow_changed`, whose settings may differ.

        Raises:
            RunError: if the directory holds another run or foreign files, was changed, or is in
                use.
        """
        config_text, facts_text = json_text(config), json_text(facts)  # what cannot be fails here
        if own := {ID, SEAL, ENDED_WITH} & facts.keys():
            raise RunError(f"{own.pop()!r} cannot be among the facts of a record: it is its own")
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file, not a directory")
        self.id = secrets.token_hex(8)
        if self.holds_run():
            if not resume:
                raise RunError(
                    f"{self.path} already holds a run: choose another directory, or go on with it "
                    "(TrainingConfig(resume=True), on the command line --resume)"
                )
            self._lock()
            if (self.path / RUN_FILE).is_file():
                before = self.read(RUN_FILE)
                self.id = before.get(ID) or ""
                self._check_config(before)
                self._check_model(before)
                self._check_same(json.loads(config_text), allowed, named="identity" not in before)
                now = json.loads(facts_text).get("data", {})
                self._check_same_data(before.get("data", {}), now)
                self._epochs(before)
            elif self.checkpoints.is_dir():  # the record is lost: as far as it can be checked
                self.id = None
                self._check_same(json.loads(config_text), allowed)
        elif self.path.is_dir() and not all(is_remains(p.name, _OWN) for p in self.path.iterdir()):
            raise RunError(f"{self.path} is not empty and holds no run: choose another directory")
        else:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise unwritable(self.path, error) from None
            self._lock()
        for folder in (self.path, self.path / "figures"):
            sweep(folder, _OWN)

    def claim(
        self,
        config: Mapping[str, Any],
        facts: Mapping[str, Any],
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """Write config.json and run.json: from here on the directory is this run's.

        Of a run that is resumed the record keeps how it began, and adds the process that goes on.

        Args:
            config, facts: as in `check`.
            more: facts of the process, where it goes on with a run.

        Raises:
            RunError: if they cannot be written.
        """
        process = process_facts()
        history: dict[str, Any] = {"started": process.pop("time"), **process}
        resumed = (self.path / RUN_FILE).is_file()
        if resumed:
            before = self.read(RUN_FILE)
            again = {"at": history["started"], **process, **(more or {})}
            history = {k: before.get(k) for k in history}
            history["resumed"] = [*(before.get("resumed") or []), again]
            facts = {**facts, **{k: before.get(k) for k in ("initial_hash", "identity")}}
        config_text = json_text(config)
        record = {
            "status": "running",
            **history,
            CONFIG_HASH: text_hash(config_text),
            **facts,
            ID: self.id,
        }
        if resumed and self._config_hash() != record[CONFIG_HASH]:
            # Whichever of the two is there when the process is killed, it is known.
            record[_CONFIG_BEFORE] = self._config_hash()
            record[_MODEL_BEFORE] = self._model()
        texts = {CONFIG_FILE: config_text, RUN_FILE: sealed(record)}
        for name in reversed(texts) if resumed else texts:
            self._write(name, texts[name])

    def is_finished(self) -> bool:
        """Whether there is a record, of a run that came to its end."""
        there = (self.path / RUN_FILE).is_file()
        return there and self.read(RUN_FILE).get("status") == "finished"

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
            RunError: if run.json is lost, was changed or cannot be written.
        """
        try:
            ended = {**self.read(RUN_FILE), "status": status, "ended": _now(), **facts}
            for name in (_CONFIG_BEFORE, _MODEL_BEFORE):
                ended.pop(name, None)
            if self.id:
                records, last = read_epochs(self.path / METRICS_FILE, self.id)
                ended[ENDED_WITH] = {"epochs": len(records), SEAL: last}
            self._write(RUN_FILE, sealed(ended))
        finally:
            self.release()

    def append(self, record: Mapping[str, Any]) -> None:
        """Add an epoch to metrics.jsonl.

        Raises:
            RunError: if it cannot be written, as on a full disk.
        """
        path = self.path / METRICS_FILE
        if self._last is None:
            _, self._last = read_epochs(path, self.id or "")
        line, last = epoch_line(record, self._last)
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
        self._last = last

    def epochs(self) -> list[dict[str, Any]]:
        """The epochs in metrics.jsonl; a last line cut off by a crash is left out.

        Raises:
            RunError: if another line is damaged or was changed, or a run that has ended had more.
        """
        here = (self.path / RUN_FILE).is_file()
        return self._epochs(self.read(RUN_FILE) if here else {ID: self.id})

    def _epochs(self, record: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Those of a run with such a record."""
        path = self.path / METRICS_FILE
        records, last = read_epochs(path, record.get(ID) or "")
        ended = record.get(ENDED_WITH)
        if ended is not None and ended != {"epochs": len(records), SEAL: last}:
            raise RunError(
                f"{path} holds {len(records)} epochs that are not the {ended['epochs']} the run "
                "ended with: put the file back, or start again in another directory"
            )
        return records

    def read_whole(self) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
        """run.json, config.json and the epochs, which belong together, also beside a writer.

        Raises:
            RunError: if one is missing, damaged, or was changed.
        """
        for _ in range(_TRIES):
            record = self.read(RUN_FILE)
            try:
                return self._belonging_to(record)
            except RunError:
                # Unless a writer has replaced the record meanwhile, it is as it seems.
                if self.read(RUN_FILE) == record:
                    raise
        return self._belonging_to(self.read(RUN_FILE))

    def _belonging_to(
        self, record: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
        self._check_config(record)
        self._check_model(record)
        return record, self.read(CONFIG_FILE), self._epochs(record)

    def kept(self, epochs: int) -> list[dict[str, Any]]:
        """The first so many epochs of metrics.jsonl, those of the checkpoint.

        Raises:
            RunError: if it holds fewer.
        """
        records = self.epochs()[:epochs]
        if len(records) < epochs:
            raise RunError(
                f"{self.path / METRICS_FILE} holds {len(records)} epochs, but the checkpoint has "
                f"seen {epochs}: put the file back, or start again in another directory"
            )
        return records

    def truncate(self, epochs: int) -> list[dict[str, Any]]:
        """Cut metrics.jsonl back to so many epochs, those of the checkpoint; returns them.

        Raises:
            RunError: if it holds fewer, or cannot be written.
        """
        records, lines, self._last = self.kept(epochs), [], self.id or ""
        for record in records:
            line, self._last = epoch_line(record, self._last)
            lines.append(f"{line}\n")
        self._write(METRICS_FILE, "".join(lines))
        return records

    def read(self, name: str) -> dict[str, Any]:
        """One of the JSON files, whose types are as they should be; run.json unchanged.

        Raises:
            RunError: if there is none or it is not readable.
        """
        try:
            return read_object(self.path / name, _FORMS[name])[0]
        except FileNotFoundError:
            raise RunError(
                f"{self.path} is not a run directory: it has no {name}"
                if self.path.is_dir()
                else f"run directory {self.path} does not exist"
            ) from None

    def _config_hash(self) -> str | None:
        """Of config.json as it is; None where there is none."""
        try:
            return text_hash((self.path / CONFIG_FILE).read_bytes())
        except FileNotFoundError:
            return None

    def config_changed(self, record: Mapping[str, Any]) -> bool:
        """Whether config.json is not the one of the record."""
        known = [record[k] for k in (CONFIG_HASH, _CONFIG_BEFORE) if record.get(k) is not None]
        return bool(known) and self._config_hash() not in known

    def _check_config(self, record: Mapping[str, Any]) -> None:
        self.read(CONFIG_FILE)
        if self.config_changed(record):
            raise changed(self.path / CONFIG_FILE)

    def model_changes(self, record: Mapping[str, Any]) -> list[str]:
        """In what model.json is not as config.json repeats it, a line each.

        Raises:
            UnreadableModel: if it is not readable.
        """
        ours = with_defaults(self.read(CONFIG_FILE))["model"]
        theirs = self._model()
        if theirs is None or "name" not in ours:  # a record of before there were models in it
            return []
        if not isinstance(theirs, dict):
            return [f"it is {plain(theirs, 60)}"]
        if theirs == record.get(_MODEL_BEFORE):
            return []
        theirs = with_defaults({"model": theirs})["model"]
        return trees.differences(trees.flatten(ours), trees.flatten(theirs))

    def _model(self) -> Any:
        """The content of model.json, None where there is none."""
        try:
            return read_json(self.path / MODEL_FILE, "model description")
        except FileNotFoundError:
            return None
        except Unreadable as error:
            raise UnreadableModel(
                f"{self.path / MODEL_FILE} is not a model description: {error}"
            ) from None

    def _check_model(self, record: Mapping[str, Any]) -> None:
        if lines := self.model_changes(record):
            raise RunError(self._model_changed(lines))

    def _model_changed(self, lines: Sequence[str]) -> str:
        return (
            f"{self.path / MODEL_FILE} was changed since the run wrote it "
            f"({_some(lines)}): put back what was there"
        )

    def check_before_loading(self) -> str | None:
        """Check that model.json is the run's own; returns the id that its checkpoints must have.

        Damaged records keep nobody from the weights, whose checkpoints have digests of their own:
        they are warned of.

        Raises:
            UnreadableModel: if model.json is another than the one of the run.
        """
        run_id = None
        try:
            record = self.read(RUN_FILE)
            run_id = record.get(ID) or ""
            self._check_config(record)
            lines = self.model_changes(record)
        except RunError as error:
            warnings.warn(
                f"whether the checkpoints and {MODEL_FILE} belong together is not known: {error}",
                stacklevel=4,
            )
            return run_id
        if lines:
            raise UnreadableModel(self._model_changed(lines))
        return run_id

    def _write(self, name: str, text: str) -> None:
        try:
            write_text(self.path / name, text)
        except OSError as error:
            raise unwritable(self.path / name, error) from None

    def _check_same(
        self, config: Mapping[str, Any], allowed: Sequence[str], *, named: bool = True
    ) -> None:
        """Check the settings; functions by name only where nothing else is known of them."""
        before = trees.flatten(with_defaults(self.read(CONFIG_FILE)))
        now = trees.flatten(with_defaults(config))
        free = {k for k in {*before, *now} if k.rpartition("/")[2] in names(TrainingConfig, FILES)}
        # A constant rate does not depend on the end, so such a training may be prolonged.
        if now.get("training/schedule") == "constant":
            free.add("training/epochs")
        # A module of the caller's is compared with the rest of what the run computes.
        freed = ["model/module", *(s for name in allowed for s in _freed(name))]
        free |= {k for k in {*before, *now} if any(trees.matches(k, s) for s in freed)}
        if not named:
            free |= {
                k
                for k in _FUNCTIONS
                if isinstance(before.get(k), str) and isinstance(now.get(k), str)
            }
        lines = trees.differences(
            {k: v for k, v in before.items() if k not in free},
            {k: v for k, v in now.items() if k not in free},
        )
        if lines:
            raise RunError(
                f"{self.path} holds a run with other settings ({_some(lines)}): resume with "
                "the same ones, or choose another directory"
            )

    def _check_same_data(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        # The name is no part of it: the same images may have been called otherwise.
        old, new = (
            {k: v for k, v in trees.flatten(data).items() if not k.endswith("/name")}
            for data in (before, now)
        )
        if lines := trees.differences(old, new):
            raise RunError(
                f"{self.path} was started on other data ({_some(lines)}): resume with the "
                "same, or choose another directory"
            )


def _freed(name: str) -> list[str]:
    """The settings that a name in `TrainingConfig.allow_changed` frees as well."""
    freed = {
        "module": ["model/name", "model/arguments"],
        "loss": ["loss"],
        "optimizer": [f"training/{setting}" for setting in names(TrainingConfig, OPTIMIZER)],
        "augment": ["training/augment"],
    }
    return freed.get(name, [])


def with_default_settings(training: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded settings, in which what has been added since stands at its default."""
    defaults = json.loads(json_text(to_dict(TrainingConfig())))
    if training.get("optimizer") == GIVEN:
        defaults.update(dict.fromkeys(names(TrainingConfig, OPTIMIZER)))
    settings = {**defaults, **training}
    if isinstance(settings["augment"], Mapping):
        augment = json.loads(json_text(to_dict(AugmentConfig())))
        settings["augment"] = {**augment, **settings["augment"]}
    return settings


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's configuration, in which what has been added since stands at its default."""
    fields = {f.name: f.default for f in dataclasses.fields(ModelSpec)}
    known = {k: v for k, v in fields.items() if v is not dataclasses.MISSING}
    return {
        **config,
        "training": with_default_settings(config.get("training", {})),
        "model": {**json.loads(json_text(known)), **config.get("model", {})},
    }


def unwritable(path: Path, error: OSError) -> RunError:
    """A record that could not be written."""
    return RunError(f"{path} cannot be written ({error.strerror}): mend that and resume")


def _some(lines: Sequence[str], most: int = 8) -> str:
    more = f"; and {len(lines) - most} more" if len(lines) > most else ""
    return "; ".join(plain(line, 400) for line in lines[:most]) + more


def process_facts() -> dict[str, Any]:
    """What is recorded of the process that makes a record: time, command, machine and code."""
    return {
        "time": _now(),
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "versions": versions(),
        "machine": machine(),
        "code": code_version(),
        "caller": caller(),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


IDENTITY = "identity"  # of a run's record, and of each process that went on with something else

"""The directory of a run: who may write there, and what is written when."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from cnnjax.core.places import expanded
from cnnjax.core.storage import is_remains, sweep
from cnnjax.runs import contents, record
from cnnjax.runs.epochs import append_epoch, read_epochs, write_epochs
from cnnjax.runs.record import IDENTITY, unwritable, write_record_file
from cnnjax.runs.resuming import check_same_data, check_same_settings
from cnnjax.runs.seal import ENDED_WITH, ID, SEAL, RunError, json_text, sealed
from cnnjax.runs.ties import check_tied, ties, without_those_before

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# How often a reader starts again where a writer replaced what it had read.
_TRIES = 5


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
        return self.path / contents.CHECKPOINTS

    @property
    def figures(self) -> Path:
        """Where the images are that the report shows."""
        return self.path / contents.FIGURES

    @property
    def _metrics(self) -> Path:
        return self.path / contents.METRICS_FILE

    def record(self) -> dict[str, Any]:
        """The content of run.json, as `read_record` has it."""
        return record.read_record(self.path)

    def begun(self) -> dict[str, Any] | None:
        """`record`; None where there is none."""
        return self.record() if (self.path / contents.RUN_FILE).is_file() else None

    def config(self) -> dict[str, Any]:
        """The content of config.json, as `read_config` has it."""
        return record.read_config(self.path)

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
        if contents.holds_run(self.path):
            if not resume:
                raise RunError(
                    f"{self.path} already holds a run: choose another directory, or go on with it "
                    "(TrainingConfig(resume=True), on the command line --resume)"
                )
            self._lock()
            self._check_begun(json.loads(config_text), json.loads(facts_text), allowed)
        else:
            self._take()
        for folder in (self.path, self.figures):
            sweep(folder, contents.OWN_FILES)

    def _check_begun(
        self, config: Mapping[str, Any], facts: Mapping[str, Any], allowed: Sequence[str]
    ) -> None:
        """Check that the run which is here is the one that is to go on."""
        before = self.begun()
        if before is not None:
            self.id = before.get(ID) or ""
            check_tied(self.path, before)
            check_same_settings(self.path, config, allowed, named=IDENTITY not in before)
            check_same_data(self.path, before.get("data", {}), facts.get("data", {}))
            self._epochs(before)
        elif self.checkpoints.is_dir():  # the record is lost: as far as it can be checked
            self.id = None
            check_same_settings(self.path, config, allowed, named=True)

    def _take(self) -> None:
        """Lock a directory in which nothing is, or make it."""
        own = contents.OWN_FILES
        if self.path.is_dir() and not all(is_remains(p.name, own) for p in self.path.iterdir()):
            raise RunError(f"{self.path} is not empty and holds no run: choose another directory")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.path, error) from None
        self._lock()

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
        process = record.process_facts()
        history: dict[str, Any] = {"started": process.pop("time"), **process}
        before = self.begun()
        if before is not None:
            again = {"at": history["started"], **process, **(more or {})}
            history = {k: before.get(k) for k in history}
            history["resumed"] = [*(before.get("resumed") or []), again]
            facts = {**facts, **{k: before.get(k) for k in ("initial_hash", IDENTITY)}}
        config_text = json_text(config)
        content = {
            "status": "running",
            **history,
            **ties(self.path, config_text, resumed=before is not None),
            **facts,
            ID: self.id,
        }
        texts = {contents.CONFIG_FILE: config_text, contents.RUN_FILE: sealed(content)}
        for name in texts if before is None else reversed(texts):
            write_record_file(self.path / name, texts[name])

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
            begun = without_those_before(self.record())
            ended = {**begun, "status": status, "ended": record.now(), **facts}
            if self.id:
                epochs, last = read_epochs(self._metrics, self.id)
                ended[ENDED_WITH] = {"epochs": len(epochs), SEAL: last}
            write_record_file(self.path / contents.RUN_FILE, sealed(ended))
        finally:
            self.release()

    def append(self, epoch: Mapping[str, Any]) -> None:
        """Add an epoch to metrics.jsonl.

        Raises:
            RunError: if it cannot be written, as on a full disk.
        """
        if self._last is None:
            _, self._last = read_epochs(self._metrics, self.id or "")
        self._last = append_epoch(self._metrics, epoch, self._last)

    def epochs(self) -> list[dict[str, Any]]:
        """The epochs in metrics.jsonl; a last line cut off by a crash is left out.

        Raises:
            RunError: if another line is damaged or was changed, or a run that has ended had more.
        """
        begun = self.begun()
        return self._epochs({ID: self.id} if begun is None else begun)

    def _epochs(self, begun: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Those of a run with such a record."""
        epochs, last = read_epochs(self._metrics, begun.get(ID) or "")
        ended = begun.get(ENDED_WITH)
        if ended is not None and ended != {"epochs": len(epochs), SEAL: last}:
            raise RunError(
                f"{self._metrics} holds {len(epochs)} epochs that are not the {ended['epochs']} "
                "the run ended with: put the file back, or start again in another directory"
            )
        return epochs

    def read_whole(self) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
        """run.json, config.json and the epochs, which belong together, also beside a writer.

        Raises:
            RunError: if one is missing, damaged, or was changed.
        """
        begun = self.record()
        for _ in range(_TRIES):
            try:
                return self._belonging_to(begun)
            except RunError:
                seen, begun = begun, self.record()
                if begun == seen:  # else a writer has replaced the record meanwhile
                    raise
        return self._belonging_to(begun)

    def _belonging_to(
        self, begun: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
        check_tied(self.path, begun)
        return begun, self.config(), self._epochs(begun)

    def kept(self, epochs: int) -> list[dict[str, Any]]:
        """The first so many epochs of metrics.jsonl, those of the checkpoint.

        Raises:
            RunError: if it holds fewer.
        """
        records = self.epochs()[:epochs]
        if len(records) < epochs:
            raise RunError(
                f"{self._metrics} holds {len(records)} epochs, but the checkpoint has "
                f"seen {epochs}: put the file back, or start again in another directory"
            )
        return records

    def truncate(self, epochs: int) -> list[dict[str, Any]]:
        """Cut metrics.jsonl back to so many epochs, those of the checkpoint; returns them.

        Raises:
            RunError: if it holds fewer, or cannot be written.
        """
        records = self.kept(epochs)
        self._last = write_epochs(self._metrics, records, self.id or "")
        return records

"""What a training leaves behind: its epochs' metrics and, in a run directory, all that it needs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import optax

from cnnjax.core import processes
from cnnjax.core.places import expanded
from cnnjax.models.saved import write_description
from cnnjax.models.saved_spec import MODEL_FILE
from cnnjax.runs import CheckpointError, Checkpoints, RunDirectory, RunError
from cnnjax.runs.caller import caller
from cnnjax.runs.caller import remark as caller_remark
from cnnjax.runs.record import IDENTITY, is_finished, unwritable
from cnnjax.training.computation import Computation
from cnnjax.training.facts import recorded_config, recorded_facts
from cnnjax.training.frozen_hash import FrozenLayers, FrozenLayersMoved
from cnnjax.training.identity import changes, recorded, refusal
from cnnjax.training.loggers import Beginning
from cnnjax.training.named_trees import named_trees, state_of
from cnnjax.training.own_step import State
from cnnjax.training.position import Position


class Recorder:
    """Records a training, from `open` to the end of the `with` block that it opens.

    Args:
        computation: of the training.
        directory: a run directory; None records the epochs in memory only.
        record, opt_state: as in `fit`.
        verbose: whether to say what becomes of a resumed run.

    Attributes:
        path: of the run directory.
        epochs: the records of all epochs so far, those before a resumption included.
    """

    def __init__(
        self,
        computation: Computation,
        directory: str | Path | None,
        record: Mapping[str, Any] | None = None,
        opt_state: optax.OptState | None = None,
        verbose: bool = False,
    ):
        self.computation = computation
        self.path = expanded(directory).absolute() if directory is not None else None
        # Of several processes the first one alone reads and writes it.
        first = processes.is_first()
        self.directory = RunDirectory(directory) if first and directory is not None else None
        self.record, self.opt_state = dict(record or {}), opt_state
        self.verbose = verbose and first
        self.epochs: list[dict[str, Any]] = []
        self._checkpoints: Checkpoints | None = None
        self._claimed = False  # whether the directory is this run's, and not ended
        self._resumed: dict[str, Any] = {}  # what the record says of this process if it goes on

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._claimed:
            stopped = kind is not None and issubclass(kind, KeyboardInterrupt)
            # This may fail too, as on a full disk: not in place of the error that led here.
            with suppress(RunError):
                self._end("interrupted" if stopped else "failed")
        elif self.directory:
            self._close()
            self.directory.release()

    @property
    def seconds(self) -> float:
        """That the recorded epochs took."""
        return sum(record["seconds"] for record in self.epochs)

    def open(
        self,
        state: State,
        position: Position,
        frozen: FrozenLayers,
    ) -> State:
        """Claim the run directory; where it holds a checkpoint to resume, restore it.

        Of several processes the first one does, and tells the others.

        Args:
            state: before the first step.
            position: at the beginning; it goes to where the checkpoint was saved.
            frozen: what must not change, which is then that of the checkpoint.

        Returns:
            The state to go on with: the one given, or that of the checkpoint.

        Raises:
            RunError, CheckpointError: if the directory is another run's, or damaged.
            FrozenLayersMoved: if the frozen layers are not those that the run began with.
        """
        opened: list[State] = []

        def open_here() -> dict[str, Any]:
            opened.append(self._open(state, position, frozen))
            best = position.selection.best_state is not None
            return {
                "path": str(self.path),
                "progress": position.as_json(),
                "epochs": self.epochs,
                "frozen_hash": frozen.hash,
                "best": best,
            }

        if self.path is not None:
            there = processes.agreed(open_here)
            if not opened:
                self.path = Path(there["path"])  # a relative one may be another one here
                position.restore(there["progress"])
                self.epochs, frozen.hash = there["epochs"], there["frozen_hash"]
            if there["best"]:
                best_state = position.selection.best_state or state
                position.selection.best_state = processes.same_everywhere(best_state)
        return processes.same_everywhere(opened[0] if opened else state)

    def _open(self, state: State, position: Position, frozen: FrozenLayers) -> State:
        """`open` in the process that writes."""
        directory = cast(RunDirectory, self.directory)
        computation, settings = self.computation, self.computation.config
        config = recorded_config(computation, self.record, self.opt_state)
        facts = {**self.record, **recorded_facts(computation)}
        directory.check(config, facts, resume=settings.resume, allowed=settings.allow_changed)
        identity = computation.identity(state)
        self._check_identity(directory, identity)
        claim = partial(self._claim, directory, config, facts, identity, frozen)
        # Until everything is read and verified, nothing that is there may change; where nothing
        # is, the directory becomes this run's before anything else is put into it.
        if not directory.checkpoints.is_dir():
            claim()
        self._checkpoints = Checkpoints(directory.checkpoints, settings.keep, run_id=directory.id)
        if settings.resume and self._checkpoints.steps():
            state = self._resume(directory, self._checkpoints, state, position, frozen)
            # No error: another machine may round the same seed's values differently.
            began_with = (directory.begun() or {}).get("initial_hash")
            if began_with not in (None, facts["initial_hash"]):
                warnings.warn(
                    f"the run in {directory.path} began with other weights than those of the model "
                    "given, which are not used: it goes on from its checkpoint",
                    stacklevel=7,
                )
        elif settings.resume:
            self.say(f"nothing was saved in {directory.path}: starting from the beginning")
        if not self._claimed:
            if position.is_over and is_finished(directory.begun() or {}):
                return state  # nothing is left to do, and nothing to add to its record
            claim()
        directory.truncate(len(self.epochs))
        return state

    def beginning(self, step: int) -> Beginning:
        """What loggers are told; step: steps of the training that are done."""
        computation = self.computation
        if self.directory is None:
            config = recorded_config(computation, self.record, self.opt_state)
            return Beginning(config=config, step=step)
        resumes = computation.config.resume
        return Beginning(self.path, self.directory.id, self.directory.config(), resumes, step)

    def add(self, record: Mapping[str, Any]) -> None:
        """Take the record of an epoch, which is a line of metrics.jsonl."""
        self.epochs.append(dict(record))
        if self.directory:
            self.directory.append(record)

    def save(self, state: State, position: Position, *, best: bool = False) -> None:
        """Save a checkpoint in the background, of the best epoch so far or another moment."""
        if self.path is None:
            return
        arrays = named_trees(state)  # in all processes, among which they may be divided
        if self._checkpoints:
            self._checkpoints.save(int(state.step), arrays, position.as_json(), best=best)

    def wait(self) -> None:
        """Until every checkpoint is on disk.

        Raises:
            CheckpointError: if one could not be written.
        """
        if self._checkpoints:
            self._checkpoints.wait()

    def finish(self, status: str, **outcome: Any) -> None:
        """Note what came of the training, which is "finished", or "stopped" by a callback.

        Raises:
            RunError: if it cannot be written.
        """
        if self._claimed:
            self._end(status, **outcome)

    def last_saved(self) -> str:
        """A clause that names the last good checkpoint."""
        with suppress(CheckpointError):  # what matters more is said beside it
            self.wait()
        steps = self._checkpoints.steps() if self._checkpoints else []
        if not steps or not self._checkpoints:
            return "no checkpoint had been saved"
        return f"the last good checkpoint is step {steps[-1]} in {self._checkpoints.directory}"

    def say(self, text: str) -> None:
        """Print a line for people, if they want any."""
        if self.verbose:
            print(text, flush=True)

    def _end(self, status: str, **outcome: Any) -> None:
        self._claimed = False
        self._close()
        if self.directory:
            self.directory.finish(status, **outcome)

    def _close(self) -> None:
        if self._checkpoints:
            self._checkpoints.close()
            self._checkpoints = None

    def _claim(
        self,
        directory: RunDirectory,
        config: Mapping[str, Any],
        facts: Mapping[str, Any],
        identity: Mapping[str, Any],
        frozen: FrozenLayers,
    ) -> None:
        proof = {"frozen_hash": frozen.hash} if frozen.patterns else {}
        directory.claim(config, {**facts, **proof, IDENTITY: identity}, self._resumed)
        self._claimed = True
        try:
            write_description(self.computation.model, config["model"], directory.path)
        except OSError as error:
            raise unwritable(directory.path / MODEL_FILE, error) from None

    def _check_identity(self, directory: RunDirectory, now: Mapping[str, Any]) -> None:
        """Whether the run in the directory is this one; what it may and does differ in is noted."""
        record = directory.begun()
        if record is None:
            return
        then = recorded(record, directory.path)
        if then is None:
            warnings.warn(
                f"an earlier version of cnnjax began the run in {directory.path} and did not "
                "record its computation: whether module, loss, optimizer and augmentation are the "
                "same cannot be checked",
                stacklevel=8,
            )
            self._resumed = {IDENTITY: now}
            return
        differing, remarks = changes(then, now)
        allowed = self.computation.config.allow_changed
        refused = [change for change in differing if not change.allowed_by(allowed)]
        if refused:
            raise RunError(f"{directory.path} holds a run that began otherwise: {refusal(refused)}")
        texts = [change.text for change in differing]
        if texts or remarks:
            self._resumed = {"changed": texts, "remarks": remarks, IDENTITY: now}
        for text in [*texts, *remarks, caller_remark(record.get("caller"), caller())]:
            if text:
                self.say(f"other than when the run began: {text}")

    def _resume(
        self,
        directory: RunDirectory,
        checkpoints: Checkpoints,
        state: State,
        position: Position,
        frozen: FrozenLayers,
    ) -> State:
        """Go to the last checkpoint; a state of the same model and optimiser is its template."""
        items, progress = checkpoints.load()
        restored = state_of(items, state, checkpoints.directory)
        directory.id = checkpoints.run_id  # where run.json is lost, they alone know it
        if frozen.patterns:
            # The checkpoint's, not the given model's, whose weights it takes the place of.
            frozen.restore(restored.variables())
            if directory.record().get("frozen_hash", frozen.hash) != frozen.hash:
                raise FrozenLayersMoved(
                    f"the frozen layers in {checkpoints.directory} are not those that the run "
                    "began with"
                )
        position.restore(progress)
        selection, epoch = position.selection, position.epoch
        if selection.best_step is not None:
            items, _ = checkpoints.load(selection.best_step)
            selection.best_state = state_of(items, state, checkpoints.directory)
        if position.epochs_begun > position.epochs:
            raise RunError(
                f"{directory.path} stands in epoch {position.epochs_begun} already: resume with at "
                f"least epochs={position.epochs_begun}, got {position.epochs}"
            )
        self.epochs = directory.kept(epoch)
        if stopped := position.stopped:
            self.say(
                f"{directory.path} was stopped by {stopped['by']} in epoch {stopped['epoch']}, and "
                "stays stopped"
            )
        elif position.is_over:
            self.say(f"{directory.path} is finished already, after epoch {epoch}")
        else:
            self.say(f"resumed {directory.path} at epoch {epoch + 1}, step {position.step}")
        return restored

"""Checkpoints: asynchronous, atomic, best and latest kept, every leaf's hash verified on load."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.core import trees
from cnnjax.runs.orbax_ways import (
    PAUSE_SECONDS,
    TRIES,
    for_orbax,
    from_orbax,
    open_manager,
    patiently,
    reason_of,
    silence_failures,
)

Tree = dict[str, Any]


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: damaged, incomplete, or of another model."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        directory: where they are, one subdirectory a step.
        keep: number of best ones kept beside the latest two.
        read_only: for loading; nothing is made or deleted.
        run_id: of the run, which its checkpoints must have; "" for a run of a version without
            such ids, None takes the id of the checkpoint that is resumed.

    Raises:
        CheckpointError: if there can be none.
    """

    def __init__(
        self,
        directory: Path,
        keep: int = 1,
        *,
        read_only: bool = False,
        run_id: str | None = None,
    ):
        from orbax.checkpoint import args

        self.directory = Path(directory).absolute()
        self._args = args
        self._keep = keep
        self.run_id = run_id
        self._read_only = read_only
        self._best: list[int] = []  # steps of the best checkpoints, the best one last
        try:
            self._manager = open_manager(self.directory, self._best, keep, read_only=read_only)
        except OSError as error:
            raise CheckpointError(
                f"checkpoints in {self.directory} cannot be {'read' if read_only else 'written'} "
                f"({error.strerror or error}): mend that first"
            ) from None
        if not read_only and self.steps():
            try:
                self._best.extend(self._meta(self.steps()[-1])["best"])
            except CheckpointError:
                self._best.extend(self.steps())  # whichever was the best, it stays

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, in ascending order; a reader looks anew."""
        if self._read_only:
            patiently(self._manager.reload)
        return sorted(
            step
            for step in self._manager.all_steps()
            if _holds_anything(self.directory / str(step))  # a stray empty folder is none
        )

    def save(
        self,
        step: int,
        items: Mapping[str, Tree],
        progress: Mapping[str, Any],
        *,
        best: bool = False,
    ) -> None:
        """Save in the background; a step that is saved already is left as it is.

        Args:
            step: which.
            items: named trees of NumPy arrays, nobody else's, "model" being the variables to
                evaluate.
            progress: what else resuming needs, as JSON: epoch, sums, best value, ...
            best: whether this is the best one so far.

        Raises:
            CheckpointError: if this one or the one before could not be written.
        """
        if step in self._manager.all_steps():
            return
        leaves = {
            item: {k: [trees.leaf_hash(v), v.dtype.str] for k, v in trees.leaves(tree).items()}
            for item, tree in items.items()
        }
        if best:
            # One more than asked for: until there is a later one, deleting this checkpoint, should
            # it be damaged, must leave a directory that knows a best one.
            self._best[:] = [*self._best, step][-self._keep - 1 :]
        meta: dict[str, Any] = {
            "run_id": self.run_id,
            "step": step,
            "leaves": leaves,
            "progress": dict(progress),
            "best": list(self._best),
        }
        meta["digest"] = _digest(meta)
        args = self._args
        with self._writing():
            self._manager.save(
                step,
                args=args.Composite(
                    **{
                        name: args.StandardSave(for_orbax(tree))
                        for name, tree in items.items()
                        if tree
                    },
                    meta=args.JsonSave(meta),
                ),
            )

    def load(self, step: int | None = None) -> tuple[dict[str, Tree], dict[str, Any]]:
        """A checkpoint as (named trees, progress).

        Args:
            step: None takes the latest one.

        Raises:
            CheckpointError: if it is damaged; names the leaf, and the latest intact checkpoint
                before it.
        """
        step = self.steps()[-1] if step is None else step
        try:
            meta = self._meta(step)
            items = {name: self._item(step, name, meta) for name in meta["leaves"]}
        except CheckpointError as error:
            raise CheckpointError(f"{error} {self._offer(step)}") from None
        self.run_id = meta.get("run_id") or ""
        return items, meta["progress"]

    def load_variables(self, step: int | None = None) -> tuple[Tree, dict[str, Any]]:
        """The variables to evaluate of one checkpoint, without the optimiser, and its progress.

        Args:
            step: None takes the best one, which is the latest where nothing was monitored; should
                a training that goes on delete it meanwhile, the one that is the best then.

        Raises:
            CheckpointError: if it is damaged, or there is none of that step.
        """
        for _ in range(TRIES):
            before = self.steps()
            try:
                return self._load_variables(step)
            except CheckpointError:
                time.sleep(PAUSE_SECONDS)  # what is being deleted is gone by then
                if self.steps() in (before, []):
                    raise
        return self._load_variables(step)

    def _load_variables(self, step: int | None) -> tuple[Tree, dict[str, Any]]:
        if step is not None and step not in self.steps():
            known = ", ".join(map(str, self.steps()))
            raise CheckpointError(
                f"checkpoint {self.directory / str(step)} does not exist; there are those of the "
                f"steps {known}"
            )
        wanted = self.steps()[-1] if step is None else step
        try:
            wanted = self.best_step() if step is None else step
            meta = self._meta(wanted)
            tree = self._item(wanted, "model", meta)
        except CheckpointError as error:
            intact = [s for s in reversed(self.steps()) if s != wanted and self._intact(s)]
            offer = "There is no other intact checkpoint."
            if intact:
                offer = (
                    f"The checkpoint of step {intact[0]} is intact: load it with step={intact[0]}."
                )
            raise CheckpointError(f"{error} {offer}") from None
        return tree, meta["progress"]

    def best_step(self) -> int:
        """The step of the best checkpoint, as the latest one has it."""
        latest = self.steps()[-1]
        best = self._meta(latest)["progress"].get("best_step")
        return latest if best is None else int(best)

    def wait(self) -> None:
        """Until everything is on disk.

        Raises:
            CheckpointError: if something could not be written.
        """
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Free the resources; whether everything was written, `wait` tells."""
        with suppress(Exception):  # the failed write again that `save` or `wait` has told of
            self._manager.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Whatever Orbax raises becomes one line: it writes in threads, with pages of traceback."""
        silence_failures()
        try:
            yield
        except Exception as error:
            steps = self.steps()
            rest = (
                f"the checkpoint of step {steps[-1]} there is complete: mend that and resume"
                if steps
                else "there is no earlier one"
            )
            raise CheckpointError(
                f"a checkpoint could not be saved in {self.directory} ({reason_of(error)}); {rest}"
            ) from None

    def _meta(self, step: int) -> dict[str, Any]:
        where = self.directory / str(step)
        meta = self._read(step, "meta", self._args.JsonRestore())
        if not isinstance(meta, dict) or meta.get("digest") != _digest(meta):
            raise CheckpointError(f"checkpoint {where} is damaged: its description was changed.")
        if meta.get("step", step) != step:
            raise CheckpointError(f"checkpoint {where} is that of step {meta['step']}, renamed.")
        if self.run_id not in (None, meta.get("run_id") or ""):
            raise CheckpointError(f"checkpoint {where} is of another run than the one it lies in.")
        return meta

    def _item(self, step: int, name: str, meta: dict[str, Any]) -> Tree:
        where, leaves = self.directory / str(step), meta["leaves"][name]
        if not leaves:
            return {}
        tree = from_orbax(self._read(step, name, self._args.StandardRestore()))
        flat = trees.leaves(tree) if isinstance(tree, dict) else {}
        if set(flat) != set(leaves):
            lines = "; ".join(trees.differences(dict.fromkeys(leaves), dict.fromkeys(flat)))
            raise CheckpointError(f"checkpoint {where} is damaged: {name} differs: {lines}.")
        for key, value in flat.items():
            digest, dtype = leaves[key]
            array = np.asarray(value)
            if array.dtype.str != dtype or trees.leaf_hash(array) != digest:
                raise CheckpointError(
                    f"checkpoint {where} is damaged: {name}/{key} differs from its stored hash."
                )
        return tree

    def _read(self, step: int, name: str, how: Any) -> Any:
        where = self.directory / str(step) / name
        silence_failures()
        try:
            restored = self._manager.restore(step, args=self._args.Composite(**{name: how}))
            return restored[name]
        except Exception as error:
            # Damage surfaces as KeyError, JSONDecodeError, UnicodeDecodeError or a bare Exception
            # with pages of text, so whatever it is becomes one line.
            reason = f"{type(error).__name__}: {error}".split("\n")[0][:200]
            raise CheckpointError(f"checkpoint {where} cannot be read ({reason}).") from None

    def _offer(self, damaged: int) -> str:
        intact = [s for s in reversed(self.steps()) if s < damaged and self._intact(s)]
        if not intact:
            return "There is no intact checkpoint before it: start again in another directory."
        return (
            f"The checkpoint before it, step {intact[0]}, is intact: delete "
            f"{self.directory / str(damaged)} and resume to continue from there."
        )

    def _intact(self, step: int) -> bool:
        try:
            meta = self._meta(step)
            for name in meta["leaves"]:
                self._item(step, name, meta)
        except CheckpointError:
            return False
        return True


def _holds_anything(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except OSError:  # deleted since it was listed
        return False


def _digest(meta: Mapping[str, Any]) -> str:
    """Over everything but itself, as it reads back from JSON."""
    content = json.dumps({k: v for k, v in meta.items() if k != "digest"}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()

"""`fit`, the only training loop."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnjax import metrics
from cnnjax.config import OPTIMIZER_SETTINGS, TrainingConfig, qualified_name, to_dict
from cnnjax.core import trees
from cnnjax.core.runtime import compiler_options
from cnnjax.data import Dataset, Loader, Splits, as_splits
from cnnjax.models import Model
from cnnjax.models.saved import MODEL_FILE, description, write_description
from cnnjax.nn import current_conv_engine
from cnnjax.runs.caller import caller
from cnnjax.runs.caller import remark as caller_remark
from cnnjax.runs.checkpoint import CheckpointError, Checkpoints
from cnnjax.runs.directory import GIVEN, IDENTITY, RUN_FILE, RunDirectory, unwritable
from cnnjax.runs.seal import RunError
from cnnjax.task import USUAL_LOSSES, Task
from cnnjax.training.devices import Devices
from cnnjax.training.dispatch import Dispatcher, Sums
from cnnjax.training.epoch_bar import Progress, epoch_line
from cnnjax.training.evaluation import evaluate_step
from cnnjax.training.freezing import FrozenLayersMoved, Tree, frozen_hash
from cnnjax.training.identity import changes, identify, recorded, refusal
from cnnjax.training.named_trees import named_trees, opt_state_hash, state_of
from cnnjax.training.optim import check_optimizer
from cnnjax.training.setting_checks import check_data, check_settings, check_single_process
from cnnjax.training.shared import make_steps
from cnnjax.training.state import TrainState
from cnnjax.training.stopping import Interrupted, NonFiniteLoss, StopSignals

# Dispatches that may wait on the device: enough to keep it busy.
_AHEAD = 4


@dataclass(frozen=True)
class Run:
    """What `fit` returns.

    Args:
        model: with the result's parameters: the best ones on the validation data if a metric is
            monitored and there is such data, else the last ones.
        history: float arrays with a value per epoch for epoch, step, loss, accuracy (for a model of
            values absolute_error in its place, here and below), learning_rate,
            seconds, images_per_second, waiting (the share of the seconds spent waiting for data;
            these three count a broken epoch up to its checkpoint, and from there after resuming)
            and, with validation data, val_loss and val_accuracy.
        metrics: of the model: val_loss, val_accuracy, test_loss, test_accuracy where there is data.
        directory: where it was recorded, or None.
        parameter_hash: SHA-256 of the model's variables; equal if and only if bitwise equal.
        best_epoch: the epoch the model is from, counted from 1.
        seconds: of this call and, if it resumed a run, of the training before it.
        opt_state: of the optimiser when it had made the model, with NumPy arrays, from which
            another `fit` may go on.
    """

    model: Model
    history: dict[str, np.ndarray]
    metrics: dict[str, float]
    directory: Path | None
    parameter_hash: str
    best_epoch: int
    seconds: float
    opt_state: optax.OptState = None


@dataclass
class _Position:
    """Where a training stands; all of it is in every checkpoint."""

    epoch: int = 0  # counted from 0
    step: int = 0  # within the epoch
    totals: dict[str, float] = field(default_factory=dict)  # of the epoch so far
    seconds: float = 0.0  # that the epoch took so far
    waiting: float = 0.0  # of these, those spent waiting for data
    best: float | None = None  # score, higher is better
    best_epoch: int = 0  # counted from 1
    best_step: int | None = None
    waited: int = 0  # epochs without a better score
    done: bool = False


def fit(
    model: Model,
    data: Splits | Dataset | tuple[np.ndarray, np.ndarray],
    config: TrainingConfig | None = None,
    loss: metrics.Loss | None = None,
    optimizer: optax.GradientTransformation | None = None,
    directory: str | Path | None = None,
    *,
    opt_state: optax.OptState | None = None,
    verbose: bool = True,
    record: Mapping[str, Any] | None = None,
) -> Run:
    """Train a model.

    Args:
        model: where to start from.
        data: Splits, a Dataset, or (images, labels) as `from_arrays` takes them. Images are pixels
            in [0, 255]; the model's preprocessing is applied on the device.
        config: how; None takes the defaults of `TrainingConfig`.
        loss: (logits [N, K], labels [N]) -> [N]; None takes cross-entropy, softmax or, for one
            logit, sigmoid; for a model of values the mean squared error.
        optimizer: any optax transformation, instead of the configured one; settings of that one
            (learning_rate, schedule, weight_decay, clip_norm, ...) are then errors. It gets the
            parameters, {layer: {weight: array}}, with `optax.MaskedNode()` for frozen ones, and
            where its `update` takes them value, grad, value_fn(params) and grad_fn(params).
        directory: a run directory for record, metrics and checkpoints; None keeps nothing on disk.
        opt_state: `Run.opt_state` of a training before, by the same kind of optimiser, maybe with
            other layers frozen: what is trained in both keeps its moments, as `training.refreeze`
            says. None begins anew.
        verbose: show progress: a bar on a terminal, a line an epoch elsewhere.
        record: further facts to store in run.json.

    Returns:
        A Run.

    Raises:
        ValueError: if data, model and configuration do not fit together, for a setting that would
            be ignored, and in one of several processes (`jax.distributed`).
        NonFiniteLoss: with metric, epoch and step; the last good checkpoint remains.
        FrozenLayersMoved: if what is frozen is not bitwise what it was; this should never be.
        Interrupted: after Ctrl-C or SIGTERM, once a checkpoint is saved.
        RunError, CheckpointError: if the directory is another run's, or damaged.

    >>> import cnnjax as cj
    >>> run = cj.fit(cj.create_model("mlp", units=(32,)), cj.data.load("digits"),
    ...              cj.TrainingConfig(epochs=2, batch_size=32), verbose=False)
    >>> run.history["loss"].shape
    (2,)
    """
    check_single_process("fit")
    config = config or TrainingConfig()
    return _Training(
        model, as_splits(data), config, loss, optimizer, directory, verbose, record, opt_state
    ).run()


class _Training:
    """One call of `fit`."""

    def __init__(
        self,
        model: Model,
        splits: Splits,
        config: TrainingConfig,
        loss: metrics.Loss | None,
        optimizer: optax.GradientTransformation | None,
        directory: str | Path | None,
        verbose: bool,
        record: Mapping[str, Any] | None,
        opt_state: optax.OptState | None = None,
    ):
        for part in splits.parts.values():
            check_data(model, part)
        check_settings(config, model, splits, optimizer, directory, record)
        self.model, self.splits, self.config = model, splits, config
        self.settings, self.loss = recorded_settings(config, optimizer), loss
        self.optimizer = optimizer
        self.loader = Loader(splits.train, config.batch_size, shuffle=True, seed=config.seed)
        total = config.epochs * self.loader.steps
        steps = self.steps = make_steps(model, loss, optimizer, config, total)
        self.schedule = steps.schedule
        self.state = TrainState.create(
            model,
            steps.optimizer,
            frozen=config.frozen,
            seed=config.seed,
            average=config.average > 0,
            opt_state=opt_state,
        )
        self.opt_state_hash = None if opt_state is None else opt_state_hash(opt_state)
        if optimizer is not None:
            check_optimizer(optimizer, self.state, config.frozen)
        self.frozen_hash = frozen_hash(model.variables, config.frozen) if config.frozen else None
        self.devices = Devices.for_batches_of(config.batch_size)
        self.dispatcher = Dispatcher(steps.train, self.loader, config, self.devices)
        self.probe = self.loader.batch(0, 0)  # what `_check_parameters` evaluates
        options = compiler_options(config.deterministic)
        self.eval_step = jax.jit(steps.evaluate, compiler_options=options)
        self.progress = Progress(config.epochs, self.loader.steps, config.batch_size, verbose)
        self.verbose = verbose
        self.at = _Position()
        self.records: list[dict[str, Any]] = []
        self.pending: list[tuple[int, Sums]] = []  # (steps done, sums) still on the device
        self.best: TrainState | None = None
        self.directory = RunDirectory(directory) if directory is not None else None
        self.checkpoints: Checkpoints | None = None
        self.claimed = False  # whether the directory is this run's
        self.facts = dict(record or {})
        self.resumed: dict[str, Any] = {}  # what the record says of this process if it goes on
        self.seconds_before = 0.0

    def run(self) -> Run:
        began = time.perf_counter()
        status, outcome = "failed", {}
        try:
            if self.directory:
                self._open(self.directory)
            self.state = self.devices.replicate(self.state)
            if jax.local_device_count() > 1:
                self._say(f"on {self.devices.count} of {jax.local_device_count()} devices")
            with StopSignals() as stop:
                while not self.at.done:
                    self._epoch(stop)
            result = self._result(time.perf_counter() - began)
            if self.checkpoints:
                self.checkpoints.wait()
            outcome = {
                "metrics": result.metrics,
                "parameter_hash": result.parameter_hash,
                "best_epoch": result.best_epoch,
                "seconds": round(result.seconds, 2),
                **self._check_frozen(result.model),
            }
            status = "finished"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            self.progress.stop()
            if self.checkpoints:
                self.checkpoints.close()
            if self.directory and self.claimed:
                # This may fail too, as on a full disk: not in place of the error that led here.
                with nullcontext() if status == "finished" else suppress(RunError):
                    self.directory.finish(status, **outcome)
            elif self.directory:
                self.directory.release()
        return result

    def _open(self, directory: RunDirectory) -> None:
        """Claim the run directory; where it holds a checkpoint to resume, restore it."""
        config = {
            "training": self.settings,
            "loss": loss_name(self.loss, self.model.spec.task),
            "conv_engine": current_conv_engine(),
            "model": description(self.model),
            "experiment": self.facts.get("experiment"),
        }
        if self.opt_state_hash:
            config["opt_state"] = self.opt_state_hash
        parts = {
            name: {"name": part.name, "examples": len(part), "fingerprint": part.fingerprint}
            for name, part in self.splits.parts.items()
        }
        facts = {
            **self.facts,
            "seed": self.config.seed,
            "data": parts,
            "source": self.splits.source,
            "model": self.model.spec.name,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(self.model.params)),
            "initial_hash": trees.tree_hash(self.model.variables),
        }
        if self.frozen_hash:
            facts["frozen_hash"] = self.frozen_hash
        allowed = self.config.allow_changed
        directory.check(config, facts, resume=self.config.resume, allowed=allowed)
        facts[IDENTITY] = self.identity()
        self._check_identity(directory, facts[IDENTITY])
        # Until everything is read and verified, nothing that is there may change; where nothing
        # is, the directory becomes this run's before anything else is put into it.
        if not directory.checkpoints.is_dir():
            self._claim(directory, config, facts)
        self.checkpoints = Checkpoints(directory.checkpoints, self.config.keep, run_id=directory.id)
        if self.config.resume and self.checkpoints.steps():
            self._restore(directory, self.checkpoints)
            # No error: another machine may round the same seed's values differently.
            if directory.initial_hash() not in (None, facts["initial_hash"]):
                warnings.warn(
                    f"the run in {directory.path} began with other weights than those of the model "
                    "given, which are not used: it goes on from its checkpoint",
                    stacklevel=4,
                )
            if self.frozen_hash:
                facts["frozen_hash"] = self.frozen_hash
        elif self.config.resume:
            self._say(f"nothing was saved in {directory.path}: starting from the beginning")
        if not self.claimed:
            if self.at.done and directory.is_finished():
                return  # nothing is left to do, and nothing to add to its record
            self._claim(directory, config, facts)
        directory.truncate(len(self.records))

    def identity(self) -> dict[str, Any]:
        """What determines this training beside settings and data."""
        return identify(
            self.model,
            self.loss,
            self.optimizer,
            self.config,
            self.steps,
            self.state,
            self.probe,
        )

    def _check_identity(self, directory: RunDirectory, now: Mapping[str, Any]) -> None:
        """Whether the run in the directory is this one; what it may and does differ in is noted."""
        if not (directory.path / RUN_FILE).is_file():
            return
        record = directory.read(RUN_FILE)
        then = recorded(record, directory.path)
        if then is None:
            warnings.warn(
                f"an earlier version of cnnjax began the run in {directory.path} and did not "
                "record its computation: whether module, loss, optimizer and augmentation are the "
                "same cannot be checked",
                stacklevel=5,
            )
            self.resumed = {IDENTITY: now}
            return
        found, remarks = changes(then, now)
        refused = [c for c in found if not c.allowed_by(self.config.allow_changed)]
        if refused:
            raise RunError(f"{directory.path} holds a run that began otherwise: {refusal(refused)}")
        if found or remarks:
            changed = [change.text for change in found]
            self.resumed = {"changed": changed, "remarks": remarks, IDENTITY: now}
        texts = [*(change.text for change in found), *remarks]
        for text in [*texts, caller_remark(record.get("caller"), caller())]:
            if text:
                self._say(f"other than when the run began: {text}")

    def _claim(
        self, directory: RunDirectory, config: Mapping[str, Any], facts: Mapping[str, Any]
    ) -> None:
        directory.claim(config, facts, self.resumed)
        self.claimed = True
        try:
            write_description(self.model, config["model"], directory.path)
        except OSError as error:
            raise unwritable(directory.path / MODEL_FILE, error) from None

    def _loaded(
        self, checkpoints: Checkpoints, step: int | None = None
    ) -> tuple[TrainState, dict[str, Any]]:
        items, progress = checkpoints.load(step)
        return state_of(items, self.state, checkpoints.directory), progress

    def _restore(self, directory: RunDirectory, checkpoints: Checkpoints) -> None:
        self.state, progress = self._loaded(checkpoints)
        directory.id = checkpoints.run_id  # where run.json is lost, they alone know it
        if self.frozen_hash:
            # The checkpoint's, not the given model's, whose weights it takes the place of.
            self.frozen_hash = frozen_hash(self.state.variables(), self.config.frozen)
            if directory.read(RUN_FILE).get("frozen_hash", self.frozen_hash) != self.frozen_hash:
                raise FrozenLayersMoved(
                    f"the frozen layers in {checkpoints.directory} are not those that the run "
                    "began with"
                )
        at = self.at = _Position(**progress)
        if at.best_step is not None:
            self.best, _ = self._loaded(checkpoints, at.best_step)
        begun = at.epoch + (at.step > 0)
        if begun > self.config.epochs:
            raise RunError(
                f"{directory.path} stands in epoch {begun} already: resume with at least "
                f"epochs={begun}, got {self.config.epochs}"
            )
        self.records = directory.kept(at.epoch)
        self.seconds_before = sum(r["seconds"] for r in self.records) + at.seconds
        # A finished training that is prolonged goes on; one stopped early stays stopped.
        at.done = at.epoch >= self.config.epochs or self._patience_over()
        if at.done:
            self._say(f"{directory.path} is finished already, after epoch {at.epoch}")
        else:
            self._say(f"resumed {directory.path} at epoch {at.epoch + 1}, step {at.step}")

    def _epoch(self, stop: StopSignals) -> None:
        """One epoch, or the rest of it."""
        at, every = self.at, self.config.checkpoint_every
        # A resumed epoch counts what it took before the break.
        began, waiting = time.perf_counter() - at.seconds, at.waiting

        def measure() -> None:
            at.seconds = time.perf_counter() - began
            at.waiting = waiting + self.dispatcher.waited

        self.progress.start_epoch(at.epoch, at.step)
        for state, done, sums in self.dispatcher.run(self.state, at.epoch, at.step):
            self.state = state
            crossed = every is not None and done // every > at.step // every
            at.step = done
            self.pending.append((done, sums))
            if len(self.pending) > _AHEAD:
                # The device keeps its queue full; people see where it really is.
                jax.block_until_ready(self.pending[-_AHEAD])
            if self.progress.due():
                self._collect(leave=_AHEAD)
                if at.totals:
                    self.progress.update(at.step - len(self.pending), metrics.divide(at.totals))
            if done < self.loader.steps and (crossed or stop.requested):
                self._collect()
                self._check_parameters()
                measure()
                self._save()
            if stop.requested and done < self.loader.steps:
                self._interrupt()
        self._collect()
        measure()
        self._end_epoch()
        if stop.requested and not at.done:
            self._interrupt()

    def _end_epoch(self) -> None:
        self._check_parameters()
        at, step = self.at, int(self.state.step)
        record: dict[str, Any] = {"epoch": at.epoch + 1, "step": step, **metrics.divide(at.totals)}
        images, seconds = at.totals["count"], max(at.seconds, 1e-9)
        if self.schedule:
            record["learning_rate"] = float(self.schedule(step - 1))
        if self.splits.validation:
            loader = Loader(self.splits.validation, self.config.batch_size)
            variables = self.state.variables()
            means = evaluate_step(self.eval_step, variables, loader, self.devices.place)
            for name, value in means.items():
                record[f"val_{name}"] = value
                if not np.isfinite(value):
                    self._refuse(f"val_{name}", value, self.loader.steps)
        record["seconds"] = round(at.seconds, 3)
        record["images_per_second"] = round(images / seconds, 1)
        record["waiting"] = round(at.waiting / seconds, 4)
        best = self._judge(record)
        self.records.append(record)
        at.epoch, at.step, at.totals, at.seconds, at.waiting = at.epoch + 1, 0, {}, 0.0, 0.0
        at.done = at.epoch >= self.config.epochs or self._patience_over()
        if self.directory:
            # The epoch's line first: a checkpoint cuts the file back to what it has seen.
            self.directory.append(record)
        self._save(best=best)
        self.progress.end_epoch(epoch_line(self.config.epochs, record))

    def _judge(self, record: Mapping[str, float]) -> bool:
        """Whether this epoch is the best so far by the monitored metric."""
        at, monitor = self.at, self.config.monitor
        if monitor is None or not self.splits.validation:
            at.best_epoch = at.epoch + 1
            return False
        value = record[f"val_{monitor}"]
        score = -value if monitor == "loss" else value
        if at.best is not None and not score > at.best:
            at.waited += 1
            return False
        at.best, at.best_epoch, at.waited = score, at.epoch + 1, 0
        at.best_step = int(self.state.step)
        self.best = jax.tree.map(_copied, self.state)
        return True

    def _patience_over(self) -> bool:
        patience = self.config.early_stopping
        return patience is not None and self.at.waited >= patience

    def _collect(self, leave: int = 0) -> None:
        """Fetch the sums of all but the last dispatches; stop at the first that is not finite."""
        cut = len(self.pending) - leave
        ready, self.pending = self.pending[: max(cut, 0)], self.pending[max(cut, 0) :]
        for done, sums in ready:
            host = {k: np.atleast_1d(v) for k, v in jax.device_get(sums).items()}
            steps = len(host["loss"])
            for i in range(steps):
                one = {k: v[i] for k, v in host.items()}
                if not np.isfinite(one["loss"]):
                    self._refuse("loss", float(one["loss"]), done - steps + i + 1)
                self.at.totals = metrics.add(self.at.totals, one)

    def _refuse(self, what: str, value: float | str, step: int) -> NoReturn:
        if self.checkpoints:
            with suppress(CheckpointError):  # what matters more is said below
                self.checkpoints.wait()
        saved = self.checkpoints.steps() if self.checkpoints else []
        where = (
            f"the last good checkpoint is step {saved[-1]} in {self.checkpoints.directory}"
            if saved and self.checkpoints
            else "no checkpoint had been saved"
        )
        rate = self.settings["learning_rate"]
        was = f" (it was {rate:g})" if rate is not None else ""
        raise NonFiniteLoss(
            f"{what} became {value} in epoch {self.at.epoch + 1}, step {step} of "
            f"{self.loader.steps}; {where}. Try a smaller learning_rate{was}"
        )

    def _save(self, *, best: bool = False) -> None:
        if self.checkpoints:
            self.checkpoints.save(
                int(self.state.step), named_trees(self.state), vars(self.at), best=best
            )

    def _check_parameters(self) -> None:
        """Before saving: a step's loss is that before its update, which may have ruined all."""
        step = self.at.step or self.loader.steps
        if not bool(_all_finite(self.state.trained)):
            self._refuse("a parameter", "NaN or infinite", step)
        sums = self.eval_step(self.state.variables(), self.probe)
        if not np.isfinite(value := float(sums["loss"])):
            self._refuse("the loss after the update", value, step)

    def _interrupt(self) -> None:
        where = f"epoch {self.at.epoch + 1}, step {self.at.step} of {self.loader.steps}"
        if not self.checkpoints or not self.directory:
            raise Interrupted(
                f"stopped in {where}; nothing was saved, since no directory was given"
            )
        self.checkpoints.wait()
        raise Interrupted(
            f"stopped in {where} and saved in {self.directory.path}: the same call with "
            "resume=True (on the command line: --resume) goes on from there"
        )

    def _check_frozen(self, model: Model) -> dict[str, str]:
        """That what is frozen is to the bit what it was, at the end and in the result."""
        if not self.frozen_hash:
            return {}
        for variables in (self.state.variables(), model.variables):
            after = frozen_hash(variables, self.config.frozen)
            if after != self.frozen_hash:
                raise FrozenLayersMoved(
                    f"training changed layers that frozen={self.config.frozen!r} was to keep: "
                    f"their hash was {self.frozen_hash[:16]}... and is {after[:16]}..."
                )
        return {"frozen_hash_after": after}

    def _result(self, seconds: float) -> Run:
        chosen = self.best or self.state
        # Through the host: the result lies on one device, wherever it was trained.
        variables = jax.tree.map(lambda v: jnp.array(np.asarray(v)), chosen.variables())
        model = self.model.replace(variables=variables)
        # The validation data were evaluated on these very variables at the end of their epoch.
        epoch = self.records[self.at.best_epoch - 1]
        results: dict[str, float] = {k: v for k, v in epoch.items() if k.startswith("val_")}
        if self.splits.test:
            loader = Loader(self.splits.test, self.config.batch_size)
            means = evaluate_step(self.eval_step, variables, loader)
            results.update({f"test_{k}": v for k, v in means.items()})
        keys = list(self.records[-1]) if self.records else []
        return Run(
            model=model,
            history={k: np.array([r.get(k, np.nan) for r in self.records], float) for k in keys},
            metrics=results,
            directory=self.directory.path if self.directory else None,
            parameter_hash=trees.tree_hash(variables),
            best_epoch=self.at.best_epoch,
            seconds=seconds + self.seconds_before,
            opt_state=jax.tree.map(_copied, chosen.opt_state),
        )

    def _say(self, text: str) -> None:
        if self.verbose:
            print(text, flush=True)


def _copied(leaf: Any) -> Any:
    """A NumPy array; a typed random key, which NumPy does not have, as one."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jnp.array(leaf) if is_key else np.array(leaf)


@jax.jit
def _all_finite(tree: Tree) -> jax.Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def identity_of(
    model: Model,
    data: Splits,
    config: TrainingConfig,
    loss: metrics.Loss | None,
    optimizer: optax.GradientTransformation | None,
) -> dict[str, Any]:
    """What would determine a training by `fit`, without training."""
    # What belongs to files determines nothing, and is refused where there are none.
    config = replace(config, keep=1, checkpoint_every=None, resume=False, allow_changed=())
    return _Training(model, data, config, loss, optimizer, None, False, None).identity()


def loss_name(loss: metrics.Loss | None, task: Task) -> str:
    """A loss as records name it; None is the usual one of the task."""
    usual = USUAL_LOSSES.get(task.loss) or qualified_name(task.loss)
    return usual if loss is None else qualified_name(loss)


def recorded_settings(
    config: TrainingConfig, optimizer: optax.GradientTransformation | None
) -> dict[str, Any]:
    """The configuration as it takes effect: what the caller gave instead is named as such."""
    settings = to_dict(config)
    if optimizer is not None:
        settings["optimizer"] = GIVEN
        settings.update(dict.fromkeys(OPTIMIZER_SETTINGS))
    return settings

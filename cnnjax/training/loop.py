"""`fit`, the only training loop.

It goes through steps and epochs and knows nothing else: what a step and an evaluation compute is
in `Computation`, where they run in `Dispatcher`, which epoch is the best in `Selection`; every
finished epoch passes through `_end_epoch`, and what is kept of it through `Recorder`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from cnnjax.config import TrainingConfig
from cnnjax.data import Dataset, Splits, Stream, as_splits
from cnnjax.metrics import Loss, Measure, divide, recorded
from cnnjax.models import Model
from cnnjax.training.callbacks import Callback, Observer, check_callbacks
from cnnjax.training.computation import Computation
from cnnjax.training.dispatch import Dispatcher
from cnnjax.training.epoch_bar import Progress, epoch_line
from cnnjax.training.frozen_hash import FrozenLayers
from cnnjax.training.given import Given
from cnnjax.training.given_optimizer import Optimizer
from cnnjax.training.hooks import Hooks
from cnnjax.training.loggers import Logger, check_loggers
from cnnjax.training.objective import Objective
from cnnjax.training.own_step import State, Step
from cnnjax.training.position import Position
from cnnjax.training.recorder import Recorder
from cnnjax.training.result import Run, result_of
from cnnjax.training.schedules import rate_of_last_step
from cnnjax.training.setting_checks import check_single_process
from cnnjax.training.stopping import (
    Interrupted,
    NonFiniteLoss,
    NotFinite,
    StopSignals,
    interrupted,
)
from cnnjax.training.tally import AHEAD, Tally


def fit(
    model: Model,
    data: Splits | Dataset | Stream | tuple[np.ndarray, np.ndarray],
    config: TrainingConfig | None = None,
    loss: Loss | None = None,
    optimizer: Optimizer | None = None,
    directory: str | Path | None = None,
    *,
    objective: Objective | None = None,
    step: Step | None = None,
    opt_state: optax.OptState | None = None,
    verbose: bool = True,
    record: Mapping[str, Any] | None = None,
    callbacks: Sequence[Observer] = (),
    loggers: Sequence[Logger] = (),
    metrics: Mapping[str, Measure] | None = None,
) -> Run:
    """Train a model.

    Args:
        model: where to start from.
        data: Splits, a Dataset, a Stream, or (inputs, labels) as `from_arrays` takes them. Images
            are pixels in [0, 255]; the model's preprocessing is applied on the device. Validation
            data choose the best epoch, test data are measured once, at the end.
        config: how; None takes the defaults of `TrainingConfig`.
        loss: (outputs, labels) -> [N]; None takes that of the model's task: of classes the
            cross-entropy of logits [N, K] and labels [N], softmax or, for one logit, sigmoid; of
            values the mean squared error.
        optimizer: any optax transformation, or a function of total_steps that makes one, instead of
            the configured one; settings of that one (learning_rate, schedule, weight_decay,
            clip_norm, ...) are then errors. It gets the parameters, {layer: {weight: array}}, with
            `optax.MaskedNode()` for frozen ones, and where its `update` takes them value, grad,
            value_fn(params) and grad_fn(params). Of a schedule-free one the averaged parameters,
            of `optax.contrib.schedule_free_eval_params`, are evaluated and returned.
        directory: a run directory for record, metrics and checkpoints; None keeps nothing on disk.
        objective: what to minimise instead of the loss, which then is that of evaluation only: a
            pure function (functions, params, state, batch, key) -> (losses [N], Aux). Functions
            are `apply(params, state, inputs) -> outputs` of evaluation,
            `apply_train(params, state, inputs, key) -> (outputs, new state)` and
            `preprocess(examples) -> inputs`; params all parameters, of which gradients reach those
            that are trained; batch["inputs"] what the model takes, batch["examples"] what the data
            have; the key is one of the seed and the step. `cj.training.supervised` is the usual
            one, `cj.training.Aux` says what is measured.
        step: a `cj.training.Step` of your own over any pytree, which takes the place of objective
            and optimiser, e.g. for a GAN; their settings are then errors. Checkpoints, records,
            early stopping and the rest stay as they are.
        opt_state: `Run.opt_state` of a training before, by the same kind of optimiser, maybe with
            other layers frozen: what is trained in both keeps its moments, as `training.refreeze`
            says. None begins anew.
        verbose: show progress: a bar on a terminal, a line an epoch elsewhere.
        record: further facts to store in run.json.
        callbacks: they look on, and may ask for a stop: functions of a `cj.training.Moment`, called
            at the end of each epoch, and objects of `cj.training.Callback`, also within it. The
            bits are the same with and without.
        loggers: of `cj.training.loggers`, which carry the numbers elsewhere: CSV, TensorBoard,
            WeightsAndBiases, or one's own.
        metrics: what is measured beside the loss and the task's metrics, of training, validation
            and test data, by name: a `cj.metrics.Metric`, e.g. {"f1": cj.metrics.f1()}, or a
            function (outputs, labels) -> [N], of which it is the mean. Their names are then those
            in records, in `Run.history` and for `TrainingConfig.monitor`.

    Returns:
        A Run: the model of the best epoch by `TrainingConfig.monitor`, or of the last one; what was
        measured of it; the history of the epochs.

    Raises:
        ValueError: if data, model and configuration do not fit together, for a setting that would
            be ignored, for a loss, objective, step, metric, callback or logger that is none, and in
            one of several processes (`jax.distributed`).
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
    callbacks, loggers = check_callbacks(callbacks), check_loggers(loggers)
    config = config or TrainingConfig()
    given = Given.checked(model.spec.task, loss, optimizer, objective, metrics, step)
    splits = as_splits(data, model.spec.task)
    computation = Computation.of(model, splits, config, given, directory, record)
    state = computation.first_state(opt_state)
    computation.check_measures(state)
    training = _Training(
        computation,
        state,
        Recorder(computation, directory, record, opt_state, verbose),
        verbose,
        callbacks,
        loggers,
    )
    return training.run()


class _Training:
    """One call of `fit`: a state that goes through the epochs, and what is kept of them."""

    def __init__(
        self,
        computation: Computation,
        state: State,
        recorder: Recorder,
        verbose: bool,
        callbacks: Sequence[Callback],
        loggers: Sequence[Logger],
    ):
        config, loader = computation.config, computation.loader
        self.computation, self.state, self.recorder = computation, state, recorder
        self.position = Position(config.epochs, computation.selection())
        self.frozen = FrozenLayers(config.frozen, computation.model.variables)
        self.hooks = Hooks(callbacks, loggers, computation.model, self.position)
        self.dispatcher = Dispatcher(
            computation.steps.train, loader, config, computation.devices, self.hooks.every
        )
        self.tally = Tally()
        self.bar = Progress(config.epochs, loader.steps, config.batch_size, verbose)

    def run(self) -> Run:
        began = time.perf_counter()
        at, devices = self.position, self.computation.devices
        with self.recorder, self.hooks:
            self.state = self.recorder.open(self.state, at, self.frozen)
            if not at.is_over:
                self.computation.loader.check_witness(at.stream)
            if self.hooks.loggers and not at.is_over:
                self.hooks.start(self.recorder.beginning(int(self.state.step)))
            seconds_before = self.recorder.seconds + at.seconds
            self.state = devices.replicate(self.state)
            if jax.local_device_count() > 1:
                self.recorder.say(f"on {devices.count} of {jax.local_device_count()} devices")
            with self.bar, StopSignals() as stop:
                while not at.is_over:
                    try:
                        self._epoch(stop)
                    except NotFinite as error:
                        raise self._diverged(error) from None
            result = result_of(
                self.computation,
                at.selection.best_state or self.state,
                self.recorder.epochs,
                at.selection.best_epoch,
                directory=self.recorder.path,
                seconds=time.perf_counter() - began + seconds_before,
            )
            self._finish(result)
        return result

    def _epoch(self, stop: StopSignals) -> None:
        """One epoch, or the rest of it."""
        at, every = self.position, self.computation.config.checkpoint_every
        steps = self.computation.loader.steps
        done = at.epoch * steps
        began = time.perf_counter() - at.seconds  # with what it took before a break
        self.bar.start_epoch(at.epoch, at.step)
        for dispatched in self.dispatcher.run(self.state, at.epoch, at.step):
            self.state = dispatched.state
            due = every is not None and dispatched.step // every > at.step // every
            before, at.step = at.step, dispatched.step
            at.data_seconds += dispatched.data_seconds
            self.tally.add(at.step, dispatched.sums)
            if self.bar.due() or self.tally.full:
                self._redraw()
            if self.hooks.due(done + before, done + at.step):
                self._look(done + before)
                if at.stopped:
                    break
            if at.step < steps and (due or stop.requested):
                self._settle(began)
                self.recorder.save(self.state, at)
                if stop.requested:
                    raise self._interrupted()
        self._settle(began)
        self._end_epoch()
        if stop.requested and not at.is_over:
            raise self._interrupted()

    def _look(self, before: int) -> None:
        """Show those who look on what came of a dispatch after so many steps of the training."""
        at, steps = self.position, self.computation.loader.steps
        at.totals = self.tally.fetch(at.totals)
        record = self._record_so_far(at.epoch * steps + at.step)
        self.hooks.on_step(before, record, self.state, at_end=at.step == steps)

    def _settle(self, began: float) -> None:
        """Wait for the device, and check what it has computed."""
        at = self.position
        at.totals = self.tally.fetch(at.totals)
        at.seconds, at.stream = time.perf_counter() - began, self.computation.loader.witness
        self.computation.check_finite(self.state, at.step)

    def _end_epoch(self) -> None:
        """Validate, and keep what the epoch has brought."""
        at, step = self.position, int(self.state.step)
        record = self._epoch_record(step)
        best = at.selection.update(at.epoch + 1, step, record, self.state)
        at.next_epoch()
        # The epoch's line first: a checkpoint cuts the file back to what it has seen.
        self.recorder.add(record)
        self.bar.end_epoch(epoch_line(at.epochs, record))
        try:
            self.hooks.on_epoch(record, self.state)
        finally:  # the checkpoint knows of a stop, and is there after an error of theirs
            self.recorder.save(self.state, at, best=best)

    def _record_so_far(self, step: int) -> dict[str, Any]:
        at, schedule = self.position, self.computation.steps.schedule
        means = divide(at.totals, self.computation.steps.measures)
        record = {"epoch": at.epoch + 1, "step": step, **{k: recorded(v) for k, v in means.items()}}
        if schedule:
            record["learning_rate"] = rate_of_last_step(schedule, self.state)
        return record

    def _epoch_record(self, step: int) -> dict[str, Any]:
        at, computation = self.position, self.computation
        record = self._record_so_far(step)
        record |= computation.validate(self.state.variables(), at.step)
        seconds = max(at.seconds, 1e-9)
        record["seconds"] = round(at.seconds, 3)
        record["images_per_second"] = round(at.totals["count"] / seconds, 1)
        record["waiting"] = round(at.data_seconds / seconds, 4)
        return record

    def _redraw(self) -> None:
        at = self.position
        at.totals = self.tally.fetch(at.totals, leave=AHEAD)
        if at.totals:
            means = divide(at.totals, self.computation.steps.measures)
            numbers = {name: value for name, value in means.items() if not np.ndim(value)}
            self.bar.update(at.step - len(self.tally), numbers)

    def _diverged(self, error: NotFinite) -> NonFiniteLoss:
        config, given = self.computation.config, self.computation.given
        own = given.optimizer is not None or given.step is not None or callable(config.schedule)
        was = "" if own else f" (it was {config.learning_rate:g})"
        return NonFiniteLoss(
            f"{error} in epoch {self.position.epoch + 1}, step {error.step} of "
            f"{self.computation.loader.steps}; {self.recorder.last_saved()}. Try a smaller "
            f"learning_rate{was}"
        )

    def _interrupted(self) -> Interrupted:
        at, steps = self.position, self.computation.loader.steps
        self.recorder.wait()
        return interrupted(f"epoch {at.epoch + 1}, step {at.step} of {steps}", self.recorder.path)

    def _finish(self, result: Run) -> None:
        """Once all is on disk, and what is frozen proven to be what it was, the run is finished."""
        self.recorder.wait()
        outcome = {
            "metrics": {name: recorded(value) for name, value in result.metrics.items()},
            "parameter_hash": result.parameter_hash,
            "best_epoch": result.best_epoch,
            "seconds": round(result.seconds, 2),
        }
        if self.frozen.patterns:
            self.frozen.check(self.state.variables())
            self.frozen.check(result.model.variables)
            outcome["frozen_hash_after"] = self.frozen.hash
        if self.position.stopped:
            outcome["stopped"] = self.position.stopped
        status = "stopped" if self.position.stopped else "finished"
        self.recorder.finish(status, **outcome)
        self.hooks.outcome = status, result.metrics

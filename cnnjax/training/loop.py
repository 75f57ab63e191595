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
from cnnjax.core import processes
from cnnjax.core.habits import TO_CONFIG, TO_DATA, helpful
from cnnjax.data import Dataset, Splits, Stream, as_splits
from cnnjax.metrics import Loss, Measure, divide
from cnnjax.models import Model
from cnnjax.models.given_model import check_model
from cnnjax.models.named_classes import named
from cnnjax.training.callbacks import Observer, check_callbacks, name_of
from cnnjax.training.computation import Computation
from cnnjax.training.dispatch import Dispatcher
from cnnjax.training.epoch_bar import Progress, epoch_line
from cnnjax.training.epoch_record import epoch_record, record_so_far
from cnnjax.training.facts import recorded_given
from cnnjax.training.frozen_hash import FrozenLayers
from cnnjax.training.given import Given
from cnnjax.training.given_optimizer import Optimizer
from cnnjax.training.hooks import Hooks
from cnnjax.training.loggers import Logger, check_loggers
from cnnjax.training.objective import Objective
from cnnjax.training.own_step import State, Step
from cnnjax.training.position import Position
from cnnjax.training.recorder import Recorder
from cnnjax.training.reporting import report_of_fit, wanted
from cnnjax.training.result import Run, outcome, result_of
from cnnjax.training.stopping import Interrupted, NotFinite, StopSignals, diverged, interrupted
from cnnjax.training.tally import AHEAD, Tally


@helpful("fit", {**TO_DATA, **TO_CONFIG})
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
    report: bool = True,
) -> Run:
    """Train a model.

    Args:
        model: where to start from. Without `label_names` of its own it gets those of the data.
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
        directory: a run directory for record, metrics, checkpoints and report; None keeps nothing
            on disk.
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
        report: with a directory, write report.html there at the end, which takes about half a
            second of a CPU, the first in a process one, and changes no bit of the run;
            `cj.report(run)` writes it later.

    Returns:
        A Run: the model of the best epoch by `TrainingConfig.monitor`, or of the last one; what was
        measured of it; the history of the epochs.

    Raises:
        ValueError: if data, model and configuration do not fit together, for a setting that would
            be ignored, and for a loss, objective, step, metric, callback or logger that is none.
        ProcessFailed: in one of several processes, if another one failed or is lost.
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
    check_model(model)
    callbacks, loggers = check_callbacks(callbacks), check_loggers(loggers)
    config = config or TrainingConfig()
    page = wanted(report, directory)
    given = Given.checked(model.spec.task, loss, optimizer, objective, metrics, step)
    with processes.together("fit"):
        splits = as_splits(data, model.spec.task)
        train = splits.train.sample if isinstance(splits.train, Stream) else splits.train
        model = model.replace(spec=named(model.spec, train.label_names))
        computation = Computation.of(model, splits, config, given, directory, record)
        hooks = Hooks(callbacks, loggers, model, Position(config.epochs, computation.selection()))
        if processes.count() > 1:
            given_here = recorded_given(computation, record, opt_state)
            processes.check_alike("fit", {**given_here, **_looking_on(hooks, directory)})
        state = computation.first_state(opt_state)
        computation.check_measures(state)
        recorder = Recorder(computation, directory, record, opt_state, verbose)
        run = _Training(computation, state, recorder, hooks).run()
    if page:
        report_of_fit(run, verbose)
    return run


def _looking_on(hooks: Hooks, directory: str | Path | None) -> dict[str, Any]:
    """What of those who look on decides when processes speak to one another, as JSON."""
    return {
        "callbacks": [name_of(callback) for callback in hooks.callbacks],
        "every of callbacks and loggers": list(hooks.every),
        "directory": "none" if directory is None else "one",
    }


class _Training:
    """One call of `fit`: a state that goes through the epochs, and what is kept of them."""

    def __init__(self, computation: Computation, state: State, recorder: Recorder, hooks: Hooks):
        config, loader, devices = computation.config, computation.loader, computation.devices
        self.computation, self.state, self.recorder = computation, state, recorder
        self.hooks, self.position = hooks, hooks.position
        self.frozen = FrozenLayers(config.frozen, computation.model.variables)
        layout = devices.layout(state)
        self.dispatcher = Dispatcher(
            computation.steps.train, loader, config, devices, hooks.every, layout
        )
        self.tally = Tally()
        self.bar = Progress(config.epochs, loader.steps, config.batch_size, recorder.verbose)

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
            self.state = devices.spread(self.state)
            if jax.device_count() > 1:
                self.recorder.say(f"on {devices.count} of {jax.device_count()} devices")
            with self.bar, StopSignals() as stop:
                while not at.is_over:
                    try:
                        self._epoch(stop)
                    except NotFinite as error:
                        saved, rate = self.recorder.last_saved(), self.computation.own_rate
                        raise diverged(error, self._place(error.step), saved, rate) from None
                self.computation.loader.close()
            seconds = time.perf_counter() - began + seconds_before
            result = result_of(self.computation, self.state, at.selection, self.recorder, seconds)
            self._finish(result)
        return result

    def _epoch(self, stop: StopSignals) -> None:
        """One epoch, or the rest of it."""
        at, every = self.position, self.computation.config.checkpoint_every
        steps = self.computation.loader.steps
        done = at.epoch * steps
        began = time.perf_counter() - at.seconds  # with what it took before a break
        self.bar.start_epoch(at.epoch, at.step)
        probe = self.computation.probe
        for dispatched in self.hooks.dispatches(self.dispatcher, probe, self.state):
            self.state = dispatched.state
            due = every is not None and dispatched.step // every > at.step // every
            before, at.step = at.step, dispatched.step
            at.data_seconds += dispatched.data_seconds
            stop.after(done + at.step)
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
        record = record_so_far(self.computation, at, self.state, at.epoch * steps + at.step)
        self.hooks.on_step(before, record, self.state, at_end=at.step == steps)

    def _settle(self, began: float) -> None:
        """Wait for the device, and check what it has computed."""
        at = self.position
        at.totals = self.tally.fetch(at.totals)
        at.seconds, at.stream = time.perf_counter() - began, self.computation.loader.witness
        self.computation.check_finite(self.state, at.step)

    def _end_epoch(self) -> None:
        """Validate, and keep what the epoch has brought."""
        at = self.position
        record = epoch_record(self.computation, at, self.state)
        record = processes.agreed(lambda: record)  # so that all decide alike, to the bit
        best = at.selection.update(at.epoch + 1, record["step"], record, self.state)
        at.next_epoch()
        # The epoch's line first: a checkpoint cuts the file back to what it has seen.
        self.recorder.add(record)
        self.bar.end_epoch(epoch_line(at.epochs, record))
        try:
            self.hooks.on_epoch(record, self.state)
        finally:  # the checkpoint knows of a stop, and is there after an error of theirs
            self.recorder.save(self.state, at, best=best)

    def _redraw(self) -> None:
        at = self.position
        at.totals = self.tally.fetch(at.totals, leave=AHEAD)
        if at.totals:
            means = divide(at.totals, self.computation.steps.measures)
            self.bar.update(at.step - len(self.tally), means)

    def _interrupted(self) -> Interrupted:
        self.recorder.wait()
        return interrupted(self._place(self.position.step), self.recorder.path)

    def _place(self, step: int) -> str:
        return f"epoch {self.position.epoch + 1}, step {step} of {self.computation.loader.steps}"

    def _finish(self, result: Run) -> None:
        """Once all is on disk, and what is frozen proven to be what it was, the run is finished."""
        stopped = self.position.stopped
        self.recorder.wait()
        if self.frozen.patterns:
            self.frozen.check(jax.tree.map(processes.on_host, self.state.variables()))
            self.frozen.check(result.model.variables)
        status = "stopped" if stopped else "finished"
        self.recorder.finish(status, **outcome(result, self.frozen.hash, stopped))
        self.hooks.outcome = status, result.metrics

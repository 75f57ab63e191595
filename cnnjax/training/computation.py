"""What one training computes, of what and where: all that stays as it is while it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnjax.config import FEED, FILES, TrainingConfig
from cnnjax.core import processes
from cnnjax.core.runtime import compiler_options
from cnnjax.core.settings import values
from cnnjax.core.text import suggest
from cnnjax.data import Batch, Dataset, Loader, Splits, StreamLoader
from cnnjax.metrics import Metric, add, divide, recorded
from cnnjax.metrics import values as unrecorded
from cnnjax.models import Model
from cnnjax.training.class_weights import resolved
from cnnjax.training.data_checks import check_data
from cnnjax.training.devices import Devices
from cnnjax.training.evaluation import ResidentEvaluation, evaluate_step
from cnnjax.training.freezing import Tree
from cnnjax.training.given import Given
from cnnjax.training.given_optimizer import check_optimizer
from cnnjax.training.identity import identify
from cnnjax.training.own_step import OwnState, State
from cnnjax.training.residency import fits
from cnnjax.training.schedule_free import check_schedule_free, is_schedule_free
from cnnjax.training.selection import Selection
from cnnjax.training.setting_checks import best_mode, check_settings, is_of_training
from cnnjax.training.shared import Steps, make_steps
from cnnjax.training.state import TrainState
from cnnjax.training.stopping import NotFinite
from cnnjax.training.streams import evaluation_loader, training_loader

# Batches of the training that are evaluated as one.
_AT_ONCE = 4


@dataclass(frozen=True, eq=False)
class Computation:
    """What a training computes.

    Args:
        model, splits, config: as in `fit`.
        given: to `fit` in place of the usual.
        loader: of the training data.
        steps: of training and evaluation, with the optimiser that they use.
        eval_step: compiled when it is first called.
        devices: among which batches are divided.
        probe: the first batch, on which parameters are tried before they are saved.
    """

    model: Model
    splits: Splits
    config: TrainingConfig
    given: Given
    loader: Loader | StreamLoader
    steps: Steps
    eval_step: Callable[..., dict[str, jax.Array]]
    devices: Devices
    probe: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        model: Model,
        splits: Splits,
        config: TrainingConfig,
        given: Given,
        directory: str | Path | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> Computation:
        """Of arguments of `fit`, once it is checked that they fit together.

        Raises:
            ValueError: if they do not, or for a setting that would be ignored.
        """
        for data in splits.parts.values():
            check_data(model, data)
        measures = given.measures(model)
        check_settings(config, model, splits, given, directory, record, measures)
        loader = training_loader(splits.train, config, model.spec)
        labels = None if isinstance(loader, StreamLoader) else splits.train.labels
        weights = resolved(config.class_weights, model.spec, labels)
        resolved_config = replace(config, class_weights=weights)
        steps = make_steps(model, given, resolved_config, config.epochs * loader.steps)
        devices = Devices.for_batches_of(
            config.batch_size // config.accumulate, divided=config.fsdp
        )
        probe = loader.batch(0, 0)
        return cls(
            model,
            splits,
            config,
            given,
            loader,
            steps,
            jax.jit(
                steps.evaluate,
                out_shardings=devices.everywhere,
                compiler_options=compiler_options(config.deterministic),
            ),
            devices,
            devices.place(probe) if devices.stated else probe,
        )

    @property
    def own_rate(self) -> float | None:
        """The configured learning rate; None where something of the caller's takes its place."""
        config, given = self.config, self.given
        other = given.optimizer is not None or given.step is not None or callable(config.schedule)
        return None if other else config.learning_rate

    def selection(self) -> Selection:
        """Of the best epoch, none of which is known yet."""
        config = self.config
        if config.monitor is None or not (self.splits.validation or self.monitors_training):
            return Selection(None)
        mode = best_mode(config, self.steps.measures, self.given)
        part = "" if self.monitors_training else "val_"
        return Selection(config.monitor, config.early_stopping, mode, part)

    @property
    def monitors_training(self) -> bool:
        """Whether what is monitored is measured by the caller's objective or step, in training."""
        return is_of_training(self.config, self.steps.measures, self.given)

    def first_state(self, opt_state: optax.OptState | None = None) -> State:
        """The state before the first step.

        Args:
            opt_state: of a training before, as in `fit`.

        Raises:
            ValueError: if the optimiser cannot train the model.
        """
        config, optimizer = self.config, self.steps.optimizer
        if self.given.step is not None:
            if opt_state is not None:
                raise ValueError(
                    "opt_state= would be ignored, since step= takes the place of the optimizer: "
                    "begin from it in the init of the step, or leave it out"
                )
            return OwnState.create(self.given.step, self.model, config.seed)
        state = TrainState.create(
            self.model,
            optimizer,
            frozen=config.frozen,
            seed=config.seed,
            average=config.average > 0,
            opt_state=opt_state,
        )
        if self.given.optimizer is not None:
            check_optimizer(optimizer, state, config.frozen)
        if is_schedule_free(state.opt_state):
            check_schedule_free(config.average, opt_state)
        return state

    def check_measures(self, state: State) -> None:
        """Try the metrics on the first batch, before an epoch is spent on them.

        Args:
            state: before the first step.

        Raises:
            ValueError: for one whose sums or results are not what they should be, or that is
                monitored and is no number.
        """
        measures, name = self.steps.measures, self.config.monitor
        if self.monitors_training:
            self._check_monitor(state)
        if not any(isinstance(measure, Metric) for measure in measures.values()):
            return
        variables = self.devices.spread(state.variables())
        sums = jax.device_get(self.eval_step(variables, self.probe))
        with np.errstate(all="ignore"):  # a batch may lack what the whole data have
            results = divide(add({}, sums), measures)
        if name is None or not self.splits.validation or self.monitors_training:
            return
        if name not in results:
            hint = suggest(name, results, "metrics")
            raise ValueError(f"monitor={name!r}: there is no metric {name!r}. {hint}")
        if np.ndim(results[name]):
            raise ValueError(
                f"monitor={name!r} must be a number, got an array {list(np.shape(results[name]))}: "
                "an average of it may be, e.g. average='macro'"
            )

    def _check_monitor(self, state: State) -> None:
        """Refuse to monitor what the caller's objective or step does not measure either."""
        name = str(self.config.monitor)
        _, sums = jax.eval_shape(self.steps.train, state, self.probe)
        own = [k for k, v in sums.items() if k != "count" and getattr(v, "shape", None) == ()]
        if name not in own:
            known = {"loss": None, **self.steps.measures, **dict.fromkeys(own)}
            hint = suggest(name.removeprefix("val_"), known, "metrics")
            raise ValueError(f"monitor={name!r}: there is no metric {name!r}. {hint}")

    def identity(self, state: State) -> dict[str, Any]:
        """What determines the training beside settings and data."""
        return identify(self.model, self.given, self.config, self.steps, state, self.probe)

    def evaluate(
        self, variables: Tree, data: Dataset, place: Callable[[Batch], dict] = jax.device_put
    ) -> dict[str, Any]:
        """Loss and metrics over a data set; arguments as in `evaluate_step`."""
        loader = evaluation_loader(data, self.config.batch_size, self.model.spec)
        return evaluate_step(self.eval_step, variables, loader, self.steps.measures, place)

    def test(self, variables: Tree, data: Dataset) -> dict[str, Any]:
        """Loss and metrics of a model's variables over test data, by all processes together."""
        if not self.devices.stated:
            return self.evaluate(variables, data)
        return self.evaluate(self.devices.spread(variables), data, self.devices.place)

    def validate(self, variables: Tree, step: int) -> dict[str, Any]:
        """What an epoch's record says of the validation data; empty where there are none.

        Args:
            variables: at its end.
            step: its last one, for the message.

        Raises:
            NotFinite: if the loss, a metric of the task or the monitored one is not finite.
        """
        if not self.splits.validation:
            return {}
        if self._resident is not None:
            results = self._resident(variables)
        else:
            results = self.evaluate(variables, self.splits.validation, self.devices.place)
        needed = {"loss", *self.model.spec.task.metrics, self.config.monitor}
        for name, value in results.items():
            if name in needed and not np.isfinite(value).all():
                raise NotFinite(f"val_{name}", value, step, undefined=name != "loss")
        return {f"val_{name}": recorded(value) for name, value in results.items()}

    def check_monitored(self, record: Mapping[str, Any], step: int) -> None:
        """Refuse an epoch of which nobody can say whether it is the best.

        Args:
            record: of the epoch.
            step: its last one, for the message.

        Raises:
            NotFinite: if what is monitored of the training is not finite.
        """
        name = str(self.config.monitor)
        if self.monitors_training and not np.isfinite(value := unrecorded(record[name])):
            raise NotFinite(name, value, step, undefined=True)

    @cached_property
    def _resident(self) -> ResidentEvaluation | None:
        """On accelerators the evaluation of validation data that fit there."""
        data, config = self.splits.validation, self.config
        if not isinstance(data, Dataset) or jax.default_backend() == "cpu":
            return None
        # Several batches at once, none of whose inner values has to wait for a backward pass.
        batches = min(_AT_ONCE, -(-len(data) // config.batch_size))
        loader = evaluation_loader(data, batches * config.batch_size, self.model.spec)
        if not isinstance(loader, Loader) or not processes.agreed(lambda: fits(loader)):
            return None
        options = compiler_options(config.deterministic)
        steps = self.steps
        return ResidentEvaluation(steps.evaluate, loader, steps.measures, self.devices, options)

    def check_finite(self, state: State, step: int) -> None:
        """Before saving: a step's loss is that before its update, which may have ruined all.

        Args:
            state: after the update.
            step: of the epoch, that made it.

        Raises:
            NotFinite: if a parameter, or the loss of the first batch, is not finite.
        """
        if not bool(_all_finite(state.trained)):
            raise NotFinite("a parameter", "NaN or infinite", step)
        sums = self.eval_step(state.variables(), self.probe)
        if not np.isfinite(value := float(sums["loss"])):
            raise NotFinite("the loss after the update", value, step)


def identity_of(
    model: Model,
    data: Splits,
    config: TrainingConfig,
    given: Given,
) -> dict[str, Any]:
    """What would determine a training by `fit`, without training."""
    # What belongs to files determines nothing, and is refused where there are none.
    config = replace(config, **values(type(config), FEED, FILES))
    computation = Computation.of(model, data, config, given)
    return computation.identity(computation.first_state())


@jax.jit
def _all_finite(tree: Tree) -> jax.Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))

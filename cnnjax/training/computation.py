"""What one training computes, of what and where: all that stays as it is while it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnjax.config import FILES, TrainingConfig
from cnnjax.core.runtime import compiler_options
from cnnjax.core.settings import values
from cnnjax.data import Batch, Dataset, Loader, Splits
from cnnjax.models import Model
from cnnjax.training.devices import Devices
from cnnjax.training.evaluation import evaluate_step
from cnnjax.training.freezing import Tree
from cnnjax.training.given import Given
from cnnjax.training.given_optimizer import check_optimizer
from cnnjax.training.identity import identify
from cnnjax.training.schedule_free import check_schedule_free, is_schedule_free
from cnnjax.training.setting_checks import check_data, check_settings
from cnnjax.training.shared import Steps, make_steps
from cnnjax.training.state import TrainState
from cnnjax.training.stopping import NotFinite


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
    loader: Loader
    steps: Steps
    eval_step: Callable[..., dict[str, jax.Array]]
    devices: Devices
    probe: Batch

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
        check_settings(config, model, splits, given, directory, record)
        loader = Loader(splits.train, config.batch_size, shuffle=True, seed=config.seed)
        steps = make_steps(model, given, config, config.epochs * loader.steps)
        return cls(
            model,
            splits,
            config,
            given,
            loader,
            steps,
            jax.jit(steps.evaluate, compiler_options=compiler_options(config.deterministic)),
            Devices.for_batches_of(config.batch_size),
            loader.batch(0, 0),
        )

    def first_state(self, opt_state: optax.OptState | None = None) -> TrainState:
        """The state before the first step.

        Args:
            opt_state: of a training before, as in `fit`.

        Raises:
            ValueError: if the optimiser cannot train the model.
        """
        config = self.config
        state = TrainState.create(
            self.model,
            self.steps.optimizer,
            frozen=config.frozen,
            seed=config.seed,
            average=config.average > 0,
            opt_state=opt_state,
        )
        if self.given.optimizer is not None:
            check_optimizer(self.steps.optimizer, state, config.frozen)
        if is_schedule_free(state.opt_state):
            check_schedule_free(config.average, opt_state)
        return state

    def identity(self, state: TrainState) -> dict[str, Any]:
        """What determines the training beside settings and data."""
        return identify(self.model, self.given, self.config, self.steps, state, self.probe)

    def evaluate(
        self, variables: Tree, data: Dataset, place: Callable[[Batch], dict] = jax.device_put
    ) -> dict[str, float]:
        """Means over a data set; arguments as in `evaluate_step`."""
        loader = Loader(data, self.config.batch_size)
        return evaluate_step(self.eval_step, variables, loader, place)

    def check_finite(self, state: TrainState, step: int) -> None:
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
    config = replace(config, **values(type(config), FILES))
    computation = Computation.of(model, data, config, given)
    return computation.identity(computation.first_state())


@jax.jit
def _all_finite(tree: Tree) -> jax.Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))

"""Pure steps: (state, batch) -> (state, sums), and (variables, batch) -> sums."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import optax

from cnnjax.augment.config import AugmentConfig
from cnnjax.config import REMAT, TrainingConfig
from cnnjax.core import trees
from cnnjax.core.checks import one_of
from cnnjax.metrics import Loss, Measure, batch_sums, checked, cross_entropy
from cnnjax.models import Model
from cnnjax.training.batches import Batch, check_augment, check_batch, masked, mixes, prepared
from cnnjax.training.class_weights import checked_class_weights, weighted
from cnnjax.training.freezing import (
    Tree,
    check_transformation,
    frozen_by,
    frozen_parameters,
    partition,
    whole,
)
from cnnjax.training.minimised import Minimised
from cnnjax.training.objective import (
    Objective,
    check_own,
    per_example,
    supervised,
)
from cnnjax.training.optim import make_optimizer, updated
from cnnjax.training.precision import (
    check_generator,
    check_precision,
    in_precision,
    products_in,
)
from cnnjax.training.remat import rematerialised
from cnnjax.training.state import TrainState

_NONE: Mapping[str, Measure] = MappingProxyType({})
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Any]]]
EvalStep = Callable[[Tree, Batch], dict[str, Any]]


def make_train_step(
    model: Model,
    loss: Loss | None = None,
    optimizer: optax.GradientTransformation | None = None,
    frozen: Sequence[str] = (),
    *,
    metrics: Mapping[str, Measure] = _NONE,
    augment: AugmentConfig | Callable | None = None,
    precision: str = "float32",
    generator: str = "threefry",
    average: float = 0.0,
    label_smoothing: float = 0.0,
    log_gradients: bool = False,
    class_weights: Sequence[float] | str | None = None,
    accumulate: int = 1,
    remat: str = "none",
    objective: Objective | None = None,
) -> TrainStep:
    """A pure training step; wrap it in `jax.jit`, `lax.scan` or a loop of one's own.

    Args:
        model: architecture and preprocessing; the weights come from the state.
        loss: (outputs, labels) -> [N]; None takes that of the model's task.
        optimizer: the one the state was created with; None takes RMSprop as Keras has it. Its
            `update` gets, where it takes them, value (the loss), grad, and of this batch
            value_fn(params) and grad_fn(params), as L-BFGS and SAM in opaque mode need them; in all
            trees `optax.MaskedNode()` stands for what is frozen.
        frozen: the patterns the state was created with.
        metrics: what is measured beside the task's, by name, as in `fit`.
        augment, precision, generator, average, label_smoothing, log_gradients, class_weights,
            accumulate, remat: as in `TrainingConfig`.
        objective: what to minimise, in place of the loss, as `fit` documents it.

    Returns:
        (state, batch) -> (state, sums). The batch holds "inputs" (pixels [N, H, W, C], or what
        else the model takes), "labels" (int32 [N], or what else its task asks for), and
        optionally "mask" [N] and "weights" [N], by which the losses are multiplied; with
        augmentation also "index" int32 [N] and "epoch".
        The loss that is minimised is the mean over the unmasked examples (with mixup and cutmix,
        of the losses for both labels by their shares; the accuracy is that of the example's own
        label, and a masked example may be the partner of the last one); sums are those of
        `metrics.batch_sums`, with log_gradients also "gradient_norm", times the count.

    >>> import jax, numpy as np, cnnjax as cj
    >>> model = cj.create_model("mlp", units=(8,))
    >>> optimizer = cj.training.make_optimizer(cj.TrainingConfig(), total_steps=1)
    >>> state = cj.training.TrainState.create(model, optimizer)
    >>> step = jax.jit(cj.training.make_train_step(model, optimizer=optimizer))
    >>> batch = {"inputs": np.zeros((4, 28, 28, 1), np.uint8), "labels": np.zeros(4, np.int32)}
    >>> state, sums = step(state, batch)
    >>> int(state.step), float(sums["count"])
    (1, 4.0)

    Raises:
        ValueError: for settings that do not fit each other, the state or the batch.
    """
    check_precision(precision)
    check_generator(generator)
    one_of(*REMAT)("remat", remat)
    if optimizer is None:
        optimizer = make_optimizer(TrainingConfig(), total_steps=1)
    check_transformation(optimizer)
    if objective is None:
        objective = _usual(model, loss, label_smoothing)
    else:
        check_own(objective, label_smoothing, mixes(augment))
    check_augment(augment, model)
    weights = checked_class_weights(class_weights, model.spec)
    task = model.spec.task
    measures = {**task.metrics, **checked(metrics, task.metrics)}
    held = frozen_parameters(model.params, model.state, frozen)
    optimizer = partition(optimizer, held, model.params)
    functions = rematerialised(in_precision(model, frozen, precision), remat)
    frozen = tuple(frozen)
    minimised = Minimised(objective, functions, frozen, measures, accumulate, generator)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Any]]:
        check_batch(batch, model.spec)
        _check_state(state, model, held, frozen, average, optimizer)
        trained = state.trained
        batch = prepared(augment, model, state.key, weighted(batch, weights))
        with products_in(precision):
            value, gradients, sums, new_state = minimised.gradient(trained, state, batch)
            updates, opt_state = updated(
                optimizer,
                gradients,
                state,
                frozen,
                value=value,
                grad=gradients,
                # optax's line searches hand grad_fn and more on.
                value_fn=lambda trained, grad_fn=None: minimised.value(trained, state, batch),
                grad_fn=lambda trained, *_: minimised.gradient(trained, state, batch)[1],
            )
        trained = optax.apply_updates(trained, updates)
        next_state = dataclasses.replace(
            state,
            step=state.step + 1,
            params=whole(trained, state.params),  # what is frozen is not even added zero to
            state=new_state,
            opt_state=opt_state,
            average=_averaged(state, trained, average),
        )
        if log_gradients:
            sums["gradient_norm"] = optax.tree.norm(gradients) * sums["count"]
        return next_state, sums

    return train_step


def _usual(model: Model, loss: Loss | None, label_smoothing: float) -> Objective:
    """The usual objective of a model."""
    num_classes, task = model.spec.num_classes, model.spec.task
    usual = loss is None and task.loss is cross_entropy
    if label_smoothing and (num_classes == 1 or not usual):
        raise ValueError("label_smoothing works with the default softmax loss only")
    return supervised(loss or task.loss, label_smoothing, num_classes)


def make_eval_step(
    model: Model,
    loss: Loss | None = None,
    *,
    metrics: Mapping[str, Measure] = _NONE,
    precision: str = "float32",
) -> EvalStep:
    """A pure evaluation step.

    Args:
        model, loss, metrics, precision: as in `make_train_step`.

    Returns:
        (variables, batch) -> sums over the unmasked examples.
    """
    check_precision(precision)
    task = model.spec.task
    loss_function = loss or task.loss
    functions = in_precision(model, (), precision)
    measures = {**task.metrics, **checked(metrics, task.metrics)}

    def eval_step(variables: Tree, batch: Batch) -> dict[str, Any]:
        inputs = model.spec.preprocess(batch["inputs"])
        state = {k: v for k, v in variables.items() if k != "params"}
        with products_in(precision):
            logits = functions.apply(variables["params"], state, inputs)
        mask = masked(batch)
        losses = per_example(loss_function(logits, batch["labels"]), mask, "loss must return")
        return batch_sums(losses, logits, {**batch, "mask": mask}, measures)

    return eval_step


def _check_state(
    state: TrainState,
    model: Model,
    held: set[str],
    frozen: tuple[str, ...],
    average: float,
    optimizer: optax.GradientTransformation,
) -> None:
    """Whether a state was created with what its step was made with."""
    expected, found = (
        {path: list(jnp.shape(leaf)) for path, leaf in trees.leaves(tree).items()}
        for tree in (model.params, state.params)
    )
    if different := trees.differences(expected, found):
        raise ValueError(
            f"state is of another model than {model.spec.name}, whose parameters differ "
            f"({different[0]}): create it with TrainState.create(model, ...)"
        )
    if bool(state.average) != bool(average):
        raise ValueError(
            f"average={average} does not fit the state: TrainState.create has an argument "
            "average, which says whether it keeps averaged parameters"
        )
    if differing := sorted(held ^ frozen_by(state.opt_state)):
        has = "trains" if differing[0] in held else "freezes"
        raise ValueError(
            f"frozen={frozen!r} does not fit the state, which {has} {differing[0]}: give "
            "TrainState.create and make_train_step the same patterns"
        )
    wanted: Any = jax.tree.structure(jax.eval_shape(optimizer.init, state.params))
    if wanted != jax.tree.structure(state.opt_state):
        raise ValueError(
            "optimizer does not fit the state, which was created with another one: give "
            "TrainState.create and make_train_step the same"
        )


def _averaged(state: TrainState, trained: Tree, decay: float) -> Tree:
    if not decay:
        return state.average
    # A short memory at first, so that the random start is soon forgotten.
    t = state.step.astype(jnp.float32) + 1.0
    d = jnp.minimum(decay, t / (t + 9.0))
    return jax.tree.map(lambda a, p: d * a + (1.0 - d) * p, state.average, trained)

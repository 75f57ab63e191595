"""Pure steps: (state, batch) -> (state, sums), and (variables, batch) -> sums."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from cnnjax import augment as augmentation
from cnnjax.augment.config import AugmentConfig
from cnnjax.config import PRECISIONS, TrainingConfig
from cnnjax.core import rng, trees
from cnnjax.core.checks import check_channels_last
from cnnjax.metrics import Loss, Measure, batch_sums, checked, cross_entropy, smooth_labels
from cnnjax.models import Model, ModelSpec
from cnnjax.task import Task
from cnnjax.training.freezing import (
    Tree,
    check_transformation,
    frozen_by,
    frozen_parameters,
    partition,
    whole,
)
from cnnjax.training.optim import make_optimizer, updated
from cnnjax.training.state import TrainState

Batch = Mapping[str, Array]
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
    average: float = 0.0,
    label_smoothing: float = 0.0,
    log_gradients: bool = False,
) -> TrainStep:
    """A pure training step; wrap it in `jax.jit`, `lax.scan` or a loop of one's own.

    Args:
        model: architecture and preprocessing; the weights come from the state.
        loss: (logits [N, K], labels [N]) -> [N]; None takes that of the model's task.
        optimizer: the one the state was created with; None takes RMSprop as Keras has it. Its
            `update` gets, where it takes them, value (the loss), grad, and of this batch
            value_fn(params) and grad_fn(params), as L-BFGS and SAM in opaque mode need them; in all
            trees `optax.MaskedNode()` stands for what is frozen.
        frozen: the patterns the state was created with.
        metrics: what is measured beside the task's, by name, as in `fit`.
        augment, precision, average, label_smoothing, log_gradients: as in `TrainingConfig`.

    Returns:
        (state, batch) -> (state, sums). The batch holds "inputs" (pixels [N, H, W, C], or what
        else the model takes), "labels" (int32 [N], or what else its task asks for), and
        optionally "mask" [N]; with augmentation also "index" int32 [N] and "epoch".
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
    _check_precision(precision)
    if optimizer is None:
        optimizer = make_optimizer(TrainingConfig(), total_steps=1)
    check_transformation(optimizer)
    num_classes, task = model.spec.num_classes, model.spec.task
    usual = loss is None and task.loss is cross_entropy
    if label_smoothing and (num_classes == 1 or not usual):
        raise ValueError("label_smoothing works with the default softmax loss only")
    _check_augment(augment, model)
    loss_function = loss or task.loss
    measures = {**task.metrics, **checked(metrics, task.metrics)}
    held = frozen_parameters(model.params, model.state, frozen)
    optimizer = partition(optimizer, held, model.params)
    functions = model.functions(frozen)
    frozen = tuple(frozen)

    def objective(
        trained: Tree,
        state: TrainState,
        inputs: Array,
        labels: Array,
        mask: Array,
        mixed: tuple[Array, Array] | None,
    ) -> tuple[Array, tuple[Array, Array, Tree]]:
        variables = _cast(whole(trained, jax.lax.stop_gradient(state.params)), precision)
        key = rng.at(rng.named(_key(state), "dropout"), state.step)
        logits, new_state = functions.apply_train(
            variables, state.state, _cast(inputs, precision), key
        )
        logits = logits.astype(jnp.float32)

        def losses_for(labels: Array) -> Array:
            targets = labels
            if label_smoothing:
                targets = smooth_labels(labels, num_classes, label_smoothing)
            return _per_example(loss_function(logits, targets), mask)

        losses = losses_for(labels)
        if mixed is not None:
            partner_labels, share = mixed
            losses = share * losses + (1.0 - share) * losses_for(partner_labels)
        mean = jnp.sum(losses * mask) / jnp.maximum(jnp.sum(mask), 1.0)
        return mean, (losses, logits, _keep_frozen(state.state, new_state, frozen))

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Any]]:
        _check_batch(batch, model.spec)
        _check_state(state, model, held, frozen, average, optimizer)
        trained = state.trained
        labels, mask = batch["labels"], _mask(batch)
        images, mixed = _augmented(augment, state, batch, task)
        inputs = model.spec.preprocess(images.astype(model.spec.input_dtype))
        # On accelerators matrix products would otherwise run in TF32 or bfloat16 unasked.
        with jax.default_matmul_precision("float32" if precision == "float32" else "default"):
            gradient = jax.value_and_grad(objective, has_aux=True)
            batch_arguments = (state, inputs, labels, mask, mixed)
            (loss_value, (losses, logits, new_state)), gradients = gradient(
                trained, *batch_arguments
            )

            def value_fn(trained: Tree, grad_fn: Any = None) -> Array:
                del grad_fn  # optax's line searches hand it on
                return objective(trained, *batch_arguments)[0]

            updates, opt_state = updated(
                optimizer,
                gradients,
                state,
                frozen,
                value=loss_value,
                grad=gradients,
                value_fn=value_fn,
                grad_fn=lambda trained, *_: gradient(trained, *batch_arguments)[1],
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
        sums = batch_sums(losses, logits, {**batch, "mask": mask}, measures)
        if log_gradients:
            sums["gradient_norm"] = optax.tree.norm(gradients) * sums["count"]
        return next_state, sums

    return train_step


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
    _check_precision(precision)
    task = model.spec.task
    loss_function = loss or task.loss
    functions = model.functions()
    measures = {**task.metrics, **checked(metrics, task.metrics)}

    def eval_step(variables: Tree, batch: Batch) -> dict[str, Any]:
        inputs = model.spec.preprocess(batch["inputs"])
        state = {k: v for k, v in variables.items() if k != "params"}
        with jax.default_matmul_precision("float32" if precision == "float32" else "default"):
            params = _cast(variables["params"], precision)
            logits = functions.apply(params, state, _cast(inputs, precision)).astype(jnp.float32)
        mask = _mask(batch)
        losses = _per_example(loss_function(logits, batch["labels"]), mask)
        return batch_sums(losses, logits, {**batch, "mask": mask}, measures)

    return eval_step


def _augmented(
    augment: AugmentConfig | Callable | None, state: TrainState, batch: Batch, task: Task
) -> tuple[Array, tuple[Array, Array] | None]:
    """A batch's images as they are trained on; where they are mixed, partners' labels and share."""
    images = batch["inputs"]
    if augment is None:
        return images, None
    _check_augmented(augment, batch, task)
    which = (rng.named(_key(state), "augment"), batch["epoch"], batch["index"])
    images = augmentation.for_batch(augment, *which, images)
    if not (isinstance(augment, AugmentConfig) and augment.mixes):
        return images, None
    images, partners, share = augmentation.mix(augment, *which, images, batch["labels"])
    return images, (partners, share)


def _per_example(losses: Array, mask: Array) -> Array:
    if losses.shape != mask.shape:
        raise ValueError(
            f"loss must return {list(mask.shape)}, got {list(losses.shape)}: one value per example"
        )
    return losses


def _check_batch(batch: Batch, spec: ModelSpec) -> None:
    """Whether a batch holds images with the channels of the model; any size may do."""
    if missing := {"inputs", "labels"} - set(batch):
        raise ValueError(
            f"batch must hold 'inputs' and 'labels', and has no {sorted(missing)[0]!r}, but "
            f"{', '.join(map(repr, sorted(batch))) or 'nothing'}"
        )
    if not spec.takes_images:
        return
    shape, channels = jnp.shape(batch["inputs"]), spec.input_shape[2]
    check_channels_last("batch['inputs']", shape, channels, "image")
    if len(shape) != 4 or shape[3] != channels:
        raise ValueError(
            f"batch['inputs'] must be [N, H, W, {channels}], as the model takes it, got "
            f"{list(shape)}"
        )


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


def _check_augment(augment: AugmentConfig | Callable | None, model: Model) -> None:
    if isinstance(augment, AugmentConfig) and not model.spec.takes_images:
        shape = list(model.spec.input_shape)
        raise ValueError(
            f"an Augment changes images [H, W, C], and {model.spec.name} takes {shape}: give a "
            "function (key, example) -> example, e.g. cj.augment.WordDropout(0.2) for texts or "
            "cj.augment.Jitter(0.1) for series"
        )
    spec = model.spec
    label = spec.task.label_shape(spec.output_shape)
    augmentation.check_labels_stay_true(augment, spec.task, label, spec.input_shape)


def _check_augmented(augment: AugmentConfig | Callable, batch: Batch, task: Task) -> None:
    if "index" not in batch or "epoch" not in batch:
        raise ValueError(
            "augment needs 'index' int32 [N] and 'epoch' in the batch, from which every "
            f"example's key is made; got {', '.join(sorted(batch))}"
        )
    # A loss of the caller's may want labels of any shape.
    shapes = batch["labels"].shape[1:], batch["inputs"].shape[1:]
    augmentation.check_labels_stay_true(augment, task, *shapes)


def _check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")


def _key(state: TrainState) -> Array:
    return jax.random.wrap_key_data(state.key)


def _mask(batch: Batch) -> Array:
    mask = batch.get("mask")
    return jnp.ones(batch["labels"].shape[0]) if mask is None else mask.astype(jnp.float32)


def _cast(tree: Any, precision: str) -> Any:
    if precision == "float32":
        return tree
    return jax.tree.map(
        lambda x: x.astype(jnp.bfloat16) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )


def _keep_frozen(old: Tree, new: Tree, frozen: tuple[str, ...]) -> Tree:
    """New collections, but a frozen layer's statistics as they were; dtypes as they were."""
    result = {}
    for collection, tree in old.items():
        fresh = trees.leaves(new[collection])

        def pick(path: str, leaf: Array, fresh: Mapping[str, Array] = fresh) -> Array:
            held = any(trees.matches(path, pattern) for pattern in frozen)
            return leaf if held else fresh[path].astype(leaf.dtype)

        result[collection] = trees.map_flat(pick, tree)
    return result


def _averaged(state: TrainState, trained: Tree, decay: float) -> Tree:
    if not decay:
        return state.average
    # A short memory at first, so that the random start is soon forgotten.
    t = state.step.astype(jnp.float32) + 1.0
    d = jnp.minimum(decay, t / (t + 9.0))
    return jax.tree.map(lambda a, p: d * a + (1.0 - d) * p, state.average, trained)

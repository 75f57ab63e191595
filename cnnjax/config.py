"""Shared settings: frozen dataclasses, checked when made, to JSON and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cnnjax.augment.config import AugmentConfig
from cnnjax.core.changes import CHANGEABLE
from cnnjax.core.checks import (
    at_least_zero,
    flag,
    one_of,
    optional,
    positive,
    whole,
    within,
)
from cnnjax.core.compound_checks import (
    layer_patterns,
    pattern_factors,
    rising_fractions,
    weights_of_classes,
)
from cnnjax.core.habits import helpful_settings
from cnnjax.core.settings import check_fields, from_dict, setting
from cnnjax.core.text import qualified_name

OPTIMIZERS = ("rmsprop", "rmsprop_keras3", "adam", "adamw", "sgd")
SCHEDULES = (
    "constant", "cosine", "one_cycle", "warmup_cosine", "step", "exponential", "plateau",
)  # fmt: skip
GENERATORS = ("threefry", "rbg")
PRECISIONS = ("float32", "tf32", "bfloat16")
# What of a training pass is kept for its gradient; the rest is computed a second time.
REMAT = ("none", "dots", "blocks")
# Samplers that are known by name, to `cj.data.samplers`.
SAMPLERS = ("balanced",)

# What a setting belongs to. From these everybody else derives what they do with a setting.
STEP = "step"  # an argument of `make_train_step`; another value compiles another step
OPTIMIZER = "optimizer"  # also compiled; an optimiser of the caller's takes its place
LOOP = "loop"  # decides the result, and not what is compiled for a step
SEED = "seed"  # what the runs of one experiment differ in
FEED = "feed"  # how examples reach the steps; changes no result: may differ on resume
FILES = "files"  # likewise, and needs a run directory


def changeable(given: Any, known: tuple[str, ...] = CHANGEABLE) -> tuple[str, ...]:
    """The names given as allow_changed, checked; each once.

    Args:
        given: a tuple or list of them.
        known: what may be named.

    Raises:
        ValueError: if they are no tuple of known names.

    >>> changeable(["loss"])
    ('loss',)
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ValueError(f"allow_changed must be a tuple of names, got {given!r}")
    check = one_of(*known)
    return tuple(dict.fromkeys(check("allow_changed", name) for name in given))


def _augment(name: str, value: Any) -> AugmentConfig | Callable:
    if isinstance(value, Mapping):
        return from_dict(AugmentConfig, value)
    if not (callable(value) or isinstance(value, AugmentConfig)):
        raise ValueError(
            f"{name} must be an Augment or a function (key, example) -> example, got {value!r}"
        )
    return value


def _name(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a name, e.g. 'loss', got {value!r}")
    return value


def _schedule(name: str, value: Any) -> str | Callable:
    return value if callable(value) else one_of(*SCHEDULES)(name, value)


def _sampler(name: str, value: Any) -> str | Callable:
    """A name, also of one of ours that is given as a function, or a function of the caller's."""
    known = getattr(value, "__module__", "") == "cnnjax.data.samplers"
    if callable(value) and not (known and getattr(value, "__name__", "") in SAMPLERS):
        return value
    if not isinstance(value := getattr(value, "__name__", value), str):
        raise ValueError(
            f"{name} must be a function (seed, epoch, data set) -> indices, or one of "
            f"{', '.join(SAMPLERS)}, got {value!r}"
        )
    return one_of(*SAMPLERS)(name, value)


def _allow_changed(_: str, value: Any) -> tuple[str, ...]:
    return changeable(value)


# The settings that some schedules alone look at.
_OF_SCHEDULES = {
    "warmup": ("one_cycle", "warmup_cosine"),
    "rate_decay": ("step", "exponential", "plateau"),
    "rate_drops": ("step",),
    "rate_patience": ("plateau",),
}


def has_end(schedule: str | Callable | None) -> bool:
    """Whether the rates of a schedule depend on how many steps there are.

    Args:
        schedule: of the settings, as a record has it too: a function by its name; None for that of
            an optimiser of the caller's, which may be any.
    """
    return schedule is None or (schedule in SCHEDULES and schedule not in ("constant", "plateau"))


@helpful_settings
@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    Args:
        epochs: passes over the training data, >= 1.
        batch_size: examples per step, over all processes together, >= 1.
        optimizer: "rmsprop", "adam", "adamw" or "sgd", with Keras' constants. "rmsprop" divides by
            sqrt(a) + 1e-7 as Keras 2 and PyTorch do; "rmsprop_keras3" by sqrt(a + 1e-7), which
            damps gradients below 3e-4.
        learning_rate: the highest one, > 0.
        momentum: of "sgd", in [0, 1).
        schedule: of the learning rate over all steps. "constant"; "cosine" falls to zero along half
            a cosine; "one_cycle" rises linearly during the first `warmup` of all steps and then
            falls likewise; "warmup_cosine" rises so and falls along half a cosine; "step" is
            multiplied by rate_decay at each of rate_drops; "exponential" falls exponentially, to
            rate_decay times what it was; "plateau" is multiplied by rate_decay after rate_patience
            epochs whose training loss, the mean over their steps, was not lower by at least 1e-4 of
            it than the lowest before. Or a function of the step, int32, counted from 0, to the
            rate, which JAX can trace; learning_rate is left out then.
        warmup: fraction of all steps in which "one_cycle" and "warmup_cosine" rise, in (0, 1).
        rate_decay: what "step", "exponential" and "plateau" multiply the rate by, in (0, 1).
        rate_drops: fractions of all steps at which "step" falls, rising, in (0, 1).
        rate_patience: epochs that "plateau" waits for, >= 1.
        weight_decay: "adamw" decays kernels decoupled from the gradient (Loshchilov & Hutter 2019);
            the others add weight_decay * w to the gradient of kernels, that is, the loss gets
            weight_decay / 2 * |w|^2. Biases and normalisation are never decayed. >= 0.
        average: decay of an exponential moving average of the parameters, which then is the model
            that is evaluated and returned; at step t it is min(average, t / (t + 9)), so that the
            random start is soon forgotten. The moving statistics of batch normalisation are not
            averaged a second time. 0 for none. In [0, 1).
        label_smoothing: share of the target spread evenly over all classes (Szegedy et al. 2016),
            in [0, 1); for the default softmax loss only.
        class_weights: how much the examples of each class count in training, a number for each,
            >= 0, by which their losses are multiplied; the mean is still over the number of
            examples, as Keras' class_weight has it. "balanced" takes `N / (K n_k)` of the N
            training labels, of which n_k are of class k. Metrics and evaluation stay as they are.
        accumulate: parts into which every batch is divided, whose gradients are added up, so that a
            part alone needs to fit into memory; it must divide batch_size. Equal to the undivided
            batch to rounding, but for what a layer takes from the batch or draws: BatchNorm has the
            statistics of a part and updates its averages for each, dropout draws anew for each.
        remat: what the training pass of the model keeps for its gradient, so that larger nets and
            batches fit into memory; what it does not keep is computed a second time, from the same
            random keys, and the gradients are the same to rounding. "none" recomputes nothing. The
            others recompute block by block, into which the net is divided where least goes from one
            to the next: "dots" all but convolutions and matrix products, which costs little time
            (normalisation, activations, pooling), "blocks" these too, which costs about a third
            more and saves most in deep nets.
        frozen: patterns of layers that stay as they are, e.g. ("block[1-4]_*",).
        rate_factors: (pattern of layers, factor on the learning rate) pairs, e.g.
            (("block5_*", 0.1),); of several that match a layer the first counts, others keep the
            rate. A pattern that names nothing that is trained is an error. Factors > 0.
        layer_decay: the learning rate of a layer is multiplied by layer_decay to the power of the
            number of layers with weights by which the deepest one lies deeper (Clark et al. 2020,
            ELECTRA; Bao et al. 2022, BEiT). How deep a layer lies is counted along the longest way
            of the data to it, so that parallel branches begin at one depth; a convolution and its
            normalisation are two layers; position embeddings and class tokens are of the layer
            whose output they join. 1 for one rate. In (0, 1].
        clip_norm: gradients of a larger global norm, over all that is trained together, are scaled
            down to it, before anything else (Pascanu et al. 2013); None: never. > 0.
        log_gradients: have in every epoch's record a gradient_norm: the global norm of the
            gradient of all that is trained, before it is clipped; the mean over the steps, each
            counting with its number of examples.
        augment: random changes of the training images: an `Augment`, or any function
            (key, image [H, W, C] float32) -> image; None for none. Of texts and series a function
            of a key and one example, int32 [T] or float32 [T, C], e.g. `cj.augment.WordDropout`.
            What it returns has the shape of what it got.
            The labels stay as they are: an `Augment` that moves what they name is refused, a
            function has to leave them true.
        sampler: which of the training examples an epoch visits: "balanced", `cj.data.weighted`, or
            a function (seed, epoch, data set) -> indices int [M], as many in every epoch; None: all
            of them, in random order.
        workers: make the training batches in so many other processes, through grain, where images
            are read from files batch by batch: for storage that is slow, and where a process has
            more cores than Python's lock lets it use. A script of one's own then has to begin its
            work below `if __name__ == "__main__":`. The batches are the same; 0 makes them in
            threads.
        seed: of everything random, in [0, 2^32).
        steps_per_dispatch: steps in one program on the device; None for 1 on CPUs, else an epoch,
            or checkpoint_every if that is less. Where the data do not fit the device, or are read
            from files, the batches of so many steps are sent together, and None takes up to 256 MiB
            of them.
        precision: of matrix products and convolutions, where parameters stay float32. "float32":
            all digits, also where an accelerator would drop some unasked; "tf32": fewer digits of
            the factors, TensorFloat-32 on NVIDIA GPUs (10 bits) and three products of bfloat16 on
            TPUs (about 16 bits), while CPUs do as with "float32"; "bfloat16": everything that the
            layers compute is rounded to 8 bits, on all of them.
        generator: of the random numbers within a step, as of dropout: "threefry", the same on every
            kind of device; "rbg", what the device itself has, which takes less time on accelerators
            and makes other numbers on each kind.
        deterministic: same bits on a GPU too, at some cost; CPUs always are.
        fsdp: divide parameters, their averages and the optimiser's state among the devices of all
            processes, an array along its longest axis that they divide; what is too small for that
            each device has whole. Less memory for more traffic, the same result to rounding, the
            same checkpoints. On one device there is nothing to divide, and it changes nothing.
        monitor: which validation metric makes a model the best one, "loss", "accuracy" or any
            other of the training that is a number; or what an objective (`Aux.metrics`) or a step
            of one's own measures, of the training data; None: the last model is the result.
        mode: whether "min" or "max" of it is best; None as the metric says: the least loss or
            error, the most accuracy.
        early_stopping: stop after so many epochs without a better monitored metric; None: never.
        checkpoint_every: steps between checkpoints within an epoch; None: at its end only. This and
            the next two are for a training with a run directory.
        keep: number of best checkpoints kept beside the two latest.
        resume: go on from the latest checkpoint in the run directory; start there if there is none.
        allow_changed: what may differ from what the run was started with, which else is an error:
            "module", "loss", "optimizer", "schedule", "augment", "sampler", "objective" or
            "metrics" (what computes them: their names stay); "code", functions and classes whose
            code is another one while all that is given to them is the same; "step", a step of
            one's own, or a computation that is another one while none of these differ. With resume
            only.

    Raises:
        ValueError: for a value out of its range, and for settings of which one would ignore the
            other.

    >>> TrainingConfig(epochs=2, schedule="cosine").optimizer
    'rmsprop'
    """

    epochs: int = setting(5, whole(), LOOP)
    batch_size: int = setting(64, whole(), LOOP)
    optimizer: str = setting("rmsprop", one_of(*OPTIMIZERS), OPTIMIZER)
    learning_rate: float = setting(1e-3, positive, OPTIMIZER)
    momentum: float = setting(0.0, within("[0, 1)"), OPTIMIZER)
    schedule: str | Callable = setting("constant", _schedule, OPTIMIZER)
    warmup: float = setting(0.25, within("(0, 1)"), OPTIMIZER)
    rate_decay: float = setting(0.1, within("(0, 1)"), OPTIMIZER)
    rate_drops: tuple[float, ...] = setting((0.5, 0.75), rising_fractions, OPTIMIZER)
    rate_patience: int = setting(5, whole(), OPTIMIZER)
    weight_decay: float = setting(0.0, at_least_zero, OPTIMIZER)
    average: float = setting(0.0, within("[0, 1)"), STEP)
    label_smoothing: float = setting(0.0, within("[0, 1)"), STEP)
    class_weights: tuple[float, ...] | str | None = setting(
        None, optional(weights_of_classes), STEP
    )
    accumulate: int = setting(1, whole(), STEP)
    remat: str = setting("none", one_of(*REMAT), STEP)
    frozen: tuple[str, ...] = setting((), layer_patterns, STEP)
    rate_factors: tuple[tuple[str, float], ...] = setting((), pattern_factors, OPTIMIZER)
    layer_decay: float = setting(1.0, within("(0, 1]"), OPTIMIZER)
    clip_norm: float | None = setting(None, optional(positive), OPTIMIZER)
    log_gradients: bool = setting(False, flag, STEP)
    augment: AugmentConfig | Callable | None = setting(None, optional(_augment), STEP)
    sampler: str | Callable | None = setting(None, optional(_sampler), LOOP)
    workers: int = setting(0, whole(0), FEED)
    seed: int = setting(0, whole(0), SEED)
    steps_per_dispatch: int | None = setting(None, optional(whole()), LOOP)
    precision: str = setting("float32", one_of(*PRECISIONS), STEP)
    generator: str = setting("threefry", one_of(*GENERATORS), STEP)
    deterministic: bool = setting(False, flag, LOOP)
    fsdp: bool = setting(False, flag, LOOP)
    monitor: str | None = setting("loss", optional(_name), LOOP)
    mode: str | None = setting(None, optional(one_of("min", "max")), LOOP)
    early_stopping: int | None = setting(None, optional(whole()), LOOP)
    checkpoint_every: int | None = setting(None, optional(whole()), FILES)
    keep: int = setting(1, whole(), FILES)
    resume: bool = setting(False, flag, FILES)
    allow_changed: tuple[str, ...] = setting((), _allow_changed, FILES)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(f"momentum belongs to 'sgd', got optimizer={self.optimizer!r}")
        self._check_schedule()
        if self.monitor is None and self.early_stopping is not None:
            raise ValueError("early_stopping needs a monitor, e.g. 'loss', got None")
        if self.monitor is None and self.mode is not None:
            raise ValueError(f"mode={self.mode!r} needs a monitor, e.g. 'accuracy', got None")
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"accumulate={self.accumulate} must divide batch_size={self.batch_size} into equal "
                "parts"
            )
        if self.allow_changed and not self.resume:
            raise ValueError(
                f"allow_changed={self.allow_changed!r} is for a run that is resumed: give "
                "resume=True with it, or leave it out"
            )

    def _check_schedule(self) -> None:
        """Refuse what the schedule would ignore."""
        if callable(self.schedule) and self.learning_rate != type(self).learning_rate:
            raise ValueError(
                f"learning_rate={self.learning_rate!r} would be ignored: the schedule is a "
                "function, whose values are the rates"
            )
        for name, schedules in _OF_SCHEDULES.items():
            value = getattr(self, name)
            if value != getattr(type(self), name) and self.schedule not in schedules:
                raise ValueError(
                    f"{name}={value!r} belongs to {' and '.join(map(repr, schedules))}, got "
                    f"schedule={self.schedule!r}"
                )


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as a dictionary for JSON; a function is stored as its name.

    >>> to_dict(AugmentConfig(width_shift=2))["width_shift"]
    2
    """
    result: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, AugmentConfig) and type(value).__module__.startswith("cnnjax."):
            value = to_dict(value)
        elif callable(value):
            value = qualified_name(value)
        elif isinstance(value, tuple):
            value = list(value)
        result[field.name] = value
    return result

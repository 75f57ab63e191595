"""Shared settings: frozen dataclasses, checked when made, to JSON and back."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnjax.augment.config import AugmentConfig
from cnnjax.core.checks import (
    LARGEST,
    check_at_least,
    check_flags,
    check_numbers,
    check_one_of,
    check_positive,
    is_number,
    plain_numbers,
)

OPTIMIZERS = ("rmsprop", "rmsprop_keras3", "adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "one_cycle")
PRECISIONS = ("float32", "bfloat16")
MONITORS = ("loss", "accuracy")
# What a resumed run may be told to go on without: see `TrainingConfig.allow_changed`.
CHANGEABLE = ("module", "loss", "optimizer", "augment", "code", "step")


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
        schedule: "constant"; "cosine" falls to zero along half a cosine; "one_cycle" rises linearly
            during the first `warmup` of all steps and then falls likewise.
        warmup: fraction of all steps in which "one_cycle" rises, in (0, 1).
        weight_decay: "adamw" decays kernels decoupled from the gradient (Loshchilov & Hutter 2019);
            the others add weight_decay * w to the gradient of kernels, that is, the loss gets
            weight_decay / 2 * |w|^2. Biases and normalisation are never decayed. >= 0.
        average: decay of an exponential moving average of the parameters, which then is the model
            that is evaluated and returned; at step t it is min(average, t / (t + 9)), so that the
            random start is soon forgotten. The moving statistics of batch normalisation are not
            averaged a second time. 0 for none. In [0, 1).
        label_smoothing: share of the target spread evenly over all classes (Szegedy et al. 2016),
            in [0, 1); for the default softmax loss only.
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
        seed: of everything random, in [0, 2^32).
        steps_per_dispatch: steps in one program on the device; None for 1 on CPUs and where the
            images stay on the host, else an epoch, or checkpoint_every if that is less.
        precision: "float32", or "bfloat16" for the computation (parameters stay float32).
        deterministic: same bits on a GPU too, at some cost; CPUs always are.
        monitor: which validation metric makes a model the best one, "loss" (smallest) or
            "accuracy" (largest); None: the last model is the result.
        early_stopping: stop after so many epochs without a better monitored metric; None: never.
        checkpoint_every: steps between checkpoints within an epoch; None: at its end only. This and
            the next two are for a training with a run directory.
        keep: number of best checkpoints kept beside the two latest.
        resume: go on from the latest checkpoint in the run directory; start there if there is none.
        allow_changed: what may differ from what the run was started with, which else is an error:
            "module", "loss", "optimizer" or "augment"; "code", functions and classes whose code is
            another one while all that is given to them is the same; "step", a computation that is
            another one while none of these differ. With resume only.
    """

    epochs: int = 5
    batch_size: int = 64
    optimizer: str = "rmsprop"
    learning_rate: float = 1e-3
    momentum: float = 0.0
    schedule: str = "constant"
    warmup: float = 0.25
    weight_decay: float = 0.0
    average: float = 0.0
    label_smoothing: float = 0.0
    frozen: tuple[str, ...] = ()
    rate_factors: tuple[tuple[str, float], ...] = ()
    layer_decay: float = 1.0
    clip_norm: float | None = None
    log_gradients: bool = False
    augment: AugmentConfig | Callable | None = None
    seed: int = 0
    steps_per_dispatch: int | None = None
    precision: str = "float32"
    deterministic: bool = False
    monitor: str | None = "loss"
    early_stopping: int | None = None
    checkpoint_every: int | None = None
    keep: int = 1
    resume: bool = False
    allow_changed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        plain_numbers(self)
        check_flags(self)
        check_at_least(self, 1, "epochs", "batch_size", "keep")
        for name in ("steps_per_dispatch", "early_stopping", "checkpoint_every"):
            if getattr(self, name) is not None:
                check_at_least(self, 1, name)
        check_at_least(self, 0, "weight_decay")
        fractions = ("momentum", "average", "label_smoothing")
        check_numbers(self, "warmup", *fractions)
        for name in fractions:
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {value!r}")
        if not 0 < self.warmup < 1:
            raise ValueError(f"warmup must lie in (0, 1), got {self.warmup!r}")
        check_positive(self, "learning_rate")
        if is_number(self.seed) and self.seed > LARGEST:
            raise ValueError(f"seed must be below 2^32, got {self.seed}")
        check_at_least(self, 0, "seed")
        object.__setattr__(self, "frozen", _patterns(self.frozen))
        object.__setattr__(self, "rate_factors", _rate_factors(self.rate_factors))
        check_positive(self, "layer_decay")
        if self.layer_decay > 1:
            raise ValueError(f"layer_decay must lie in (0, 1], got {self.layer_decay!r}")
        if self.clip_norm is not None:
            check_positive(self, "clip_norm")
        if isinstance(self.augment, Mapping):
            object.__setattr__(self, "augment", from_dict(AugmentConfig, self.augment))
        if not (
            self.augment is None
            or callable(self.augment)
            or isinstance(self.augment, AugmentConfig)
        ):
            raise ValueError(
                "augment must be an Augment or a function (key, example) -> example, got "
                f"{self.augment!r}"
            )
        check_one_of(self, "optimizer", OPTIMIZERS)
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(f"momentum belongs to 'sgd', got optimizer={self.optimizer!r}")
        check_one_of(self, "schedule", SCHEDULES)
        if self.warmup != type(self).warmup and self.schedule != "one_cycle":
            raise ValueError(
                f"warmup={self.warmup!r} belongs to 'one_cycle', got schedule={self.schedule!r}"
            )
        check_one_of(self, "precision", PRECISIONS)
        if self.monitor is not None:
            check_one_of(self, "monitor", MONITORS)
        elif self.early_stopping is not None:
            raise ValueError("early_stopping needs a monitor: 'loss' or 'accuracy', got None")
        object.__setattr__(self, "allow_changed", changeable(self.allow_changed))
        if self.allow_changed and not self.resume:
            raise ValueError(
                f"allow_changed={self.allow_changed!r} is for a run that is resumed: give "
                "resume=True with it, or leave it out"
            )


def changeable(names: Any, known: tuple[str, ...] = CHANGEABLE) -> tuple[str, ...]:
    """The names given as allow_changed, checked; each once.

    Args:
        names: a tuple or list of them.
        known: what may be named.

    Raises:
        ValueError: if they are no tuple of known names.

    >>> changeable(["loss"])
    ('loss',)
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ValueError(f"allow_changed must be a tuple of names, got {names!r}")
    found = tuple(names)
    for name in found:
        if not isinstance(name, str) or name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"allow_changed must hold names of {', '.join(known)}, got {name!r}{hint}"
            )
    return tuple(dict.fromkeys(found))


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


def qualified_name(function: Callable) -> str:
    """The module and name of a function, for records.

    Of a dataclass also its settings, of a `functools.partial` the function and its arguments.

    >>> import functools, math
    >>> qualified_name(functools.partial(math.pow, 2.0))
    'functools.partial(math.pow, 2.0)'
    """
    if isinstance(function, functools.partial):
        given = [_said(value) for value in function.args]
        given += [f"{name}={_said(value)}" for name, value in function.keywords.items()]
        return f"functools.partial({', '.join([qualified_name(function.func), *given])})"
    if dataclasses.is_dataclass(function) and not isinstance(function, type):
        return f"{function.__module__}.{function!r}"
    return f"{function.__module__}.{getattr(function, '__qualname__', type(function).__name__)}"


def without_address(text: str) -> str:
    """The text of an object without its place in memory, which is another one in every process.

    >>> without_address("<function f at 0x7f00>")
    '<function f>'
    """
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def _said(value: Any) -> str:
    return qualified_name(value) if callable(value) else without_address(repr(value))


def from_dict(kind: type, values: Mapping[str, Any]) -> Any:
    """The inverse of `to_dict`; unknown names are an error that offers the nearest ones.

    Raises:
        ValueError: for an unknown name or a value out of range.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{kind.__name__} must be settings by name, got {values!r}")
    names = [field.name for field in dataclasses.fields(kind)]
    for key in values:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=2) or names
            raise ValueError(
                f"{kind.__name__} has no setting {key!r}. Did you mean {' or '.join(near)}?"
            )
    fixed = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return kind(**fixed)


def _patterns(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        raise ValueError(f"frozen must be a tuple of patterns, got the string {value!r}")
    if not isinstance(value, Iterable) or not all(isinstance(v, str) for v in (*value,)):
        raise ValueError(f"frozen must be a tuple of patterns, got {value!r}")
    return tuple(value)


def _rate_factors(pairs: Any) -> tuple[tuple[str, float], ...]:
    """Pairs of a pattern and a factor; a mapping and lists of JSON become tuples."""
    pairs = pairs.items() if isinstance(pairs, Mapping) else pairs
    wanted = "rate_factors must be pairs of a pattern and a factor, e.g. (('block5_*', 0.1),)"
    if not isinstance(pairs, Iterable) or isinstance(pairs, str):
        raise ValueError(f"{wanted}, got {pairs!r}")
    found = []
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise ValueError(f"{wanted}, got {pair!r}")
        factor = pair[1].item() if isinstance(pair[1], np.generic) else pair[1]
        if not (is_number(factor) and factor > 0):
            raise ValueError(
                f"rate_factors: the factor of {pair[0]!r} must be positive, got {factor!r}: what "
                "is to stay as it is belongs to frozen"
            )
        found.append((pair[0], factor))
    return tuple(found)


# Settings that an optimiser of the caller's takes the place of.
OPTIMIZER_SETTINGS = (
    "learning_rate",
    "schedule",
    "warmup",
    "momentum",
    "weight_decay",
    "rate_factors",
    "layer_decay",
    "clip_norm",
)

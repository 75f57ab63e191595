"""One pass through a module in training or in evaluation, seen from outside; only shapes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from flax import linen
from flax.core import DenyList

from cnnjax.core import trees
from cnnjax.models import taps
from cnnjax.models.modules import LOSSES, TRAIN_ARGUMENTS, Static, sown, training_keys
from cnnjax.nn import BatchNormalization

# What layers call their switch, and its value in training.
_LAYER_SWITCHES = {**TRAIN_ARGUMENTS, "use_running_average": False, "update_stats": True}
_NORMS = (linen.BatchNorm, linen.SpectralNorm, BatchNormalization)
_NOT_PARAMETERS = DenyList("params")
_RATES = ("rate", "dropout_rate", "drop_rate", "drop_prob", "drop_path_rate")


@dataclass
class Pass:
    """What one pass through a module shows.

    Args:
        outputs: their shapes.
        layers: path of every BatchNorm, Dropout and the like -> whether it was in training mode.
        kinds: path -> class of that layer.
        acts: whether random numbers were drawn or variables changed.
        made: path of every variable after a training pass -> whether it was sown; None for one
            that initialisation does not make.
        losses: path of all that is sown into "losses" -> its shapes, one for each time.
        error: what stopped the pass.
    """

    outputs: Any = None
    layers: dict[str, bool] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    acts: bool = False
    made: dict[str, bool | None] = field(default_factory=dict)
    losses: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)
    error: Exception | None = None

    def watch(self, visit: taps.Visit) -> Any:
        """Note the mode of a layer."""
        kind = type(visit.module).__name__
        path = visit.path or kind
        if type(visit.module).__module__.startswith("flax.nnx"):
            raise ValueError(
                f"{path} is an NNX module in nnx.bridge.ToLinen, whose mode nothing sets: give "
                "cj.Model.from_nnx a net that is NNX's throughout"
            )
        mode = _training_mode(visit.module, visit.args, visit.kwargs)
        if mode is not None:
            self.layers[path] = self.layers.get(path, False) or mode
            self.kinds[path] = kind
        return visit.proceed()

    def named(self, layers: Sequence[str]) -> str:
        """Layers for a message: "norm (BatchNorm) and 3 more"."""
        texts = [
            path if path == self.kinds[path] else f"{path} ({self.kinds[path]})"
            for path in layers[:3]
        ]
        more = len(layers) - len(texts)
        return ", ".join(texts) + (f" and {more} more" if more else "")


def evaluation_pass(static: Static, sample: jax.ShapeDtypeStruct) -> Pass:
    """A pass in evaluation, with no random keys and variables that stay.

    Args:
        static: the module and its switches.
        sample: of its inputs.
    """
    seen = Pass()

    def run(variables: Any, inputs: Any) -> Any:
        with taps.watched(seen.watch):
            return static.evaluate(variables, inputs)

    try:
        seen.outputs = jax.eval_shape(run, _variables(static, sample), sample)
    except Exception as error:  # the code is another's, and may raise anything
        seen.error = error
    return seen


def training_pass(
    static: Static, sample: jax.ShapeDtypeStruct, mutable: Any = _NOT_PARAMETERS
) -> Pass:
    """A pass in training.

    Args:
        static, sample: as in `evaluation_pass`.
        mutable: collections that may change, as Flax takes them.
    """
    seen = Pass()

    def run(variables: Any, keys: Any, inputs: Any) -> Any:
        with taps.watched(seen.watch):
            outputs, after = static.train(variables, inputs, keys, mutable)
        before = trees.flatten(variables)
        for path, leaf in trees.flatten(after).items():
            if path.startswith("perturbations/"):
                continue
            if path.startswith(f"{LOSSES}/"):
                seen.losses[path] = [np.shape(one) for one in jax.tree.leaves(leaf)]
            seen.made[path] = sown(leaf) if sown(leaf) or path in before else None
            seen.acts |= path in before and leaf is not before[path]
        return outputs

    try:
        variables = _variables(static, sample)
        keys = jax.eval_shape(lambda: training_keys(jax.random.key(0)))
        program, seen.outputs = jax.make_jaxpr(run, return_shape=True)(variables, keys, sample)
    except Exception as error:  # the code is another's, and may raise anything
        seen.error = error
        return seen
    first = len(jax.tree.leaves(variables))
    drawn = program.jaxpr.invars[first : first + len(keys)]
    used = {id(v) for equation in program.jaxpr.eqns for v in equation.invars}
    seen.acts |= any(id(v) in used for v in drawn)
    return seen


def _variables(static: Static, sample: jax.ShapeDtypeStruct) -> Any:
    return jax.eval_shape(functools.partial(static.initial, sample), jax.random.key(0))


def _training_mode(module: linen.Module, args: Any, kwargs: Any) -> bool | None:
    """Whether a call of a layer is one in training; None if it makes no difference there."""
    rates = [getattr(module, name, 0) for name in _RATES]
    drops = any(isinstance(rate, int | float) and rate > 0 for rate in rates)
    if not drops and not isinstance(module, _NORMS):
        return None
    signature = inspect.signature(type(module).__call__)
    try:
        given = signature.bind_partial(module, *args, **kwargs).arguments
    except TypeError:  # which the call itself will say
        return None
    for name, on in _LAYER_SWITCHES.items():
        if name in signature.parameters:
            default = signature.parameters[name].default
            for value in (given.get(name), getattr(module, name, None), default):
                if isinstance(value, bool | np.bool_):
                    return bool(value) == on
    return None

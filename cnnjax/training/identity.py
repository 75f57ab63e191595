"""What determines a run: recorded when it starts, compared when somebody goes on with it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import optax

from cnnjax.augment.config import AugmentConfig
from cnnjax.config import TrainingConfig
from cnnjax.core.changes import Difference, differences, kind_of
from cnnjax.core.describe import describe
from cnnjax.core.program import program
from cnnjax.core.runtime import code_version, versions
from cnnjax.models import Model
from cnnjax.nn import current_conv_engine
from cnnjax.runs import RunError
from cnnjax.runs.record import IDENTITY
from cnnjax.training.given import Given
from cnnjax.training.own_step import State
from cnnjax.training.shared import Steps

_PARTS = (
    *("module", "loss", "optimizer", "schedule", "augment", "sampler", "objective", "own_step"),
    "metrics",
)
# How a part is called where that is not its name, under which a program stands.
_NAMES = {"own_step": "step"}
_OUTSIDE = ("sampler",)  # of the step, whose trace does not know them
# What is traced; "start" is the optimiser's first state, into which it may put what it was given.
_PROGRAMS = {"step": "a step", "evaluation": "the evaluation", "start": "the optimizer's start"}

# With which the compiled code of functions and the insides of packages may be other ones.
_VERSIONS = ("python", "jax", "flax", "optax", "cnnjax")

_MOST_SHOWN = 3


def identify(
    model: Model,
    given: Given,
    config: TrainingConfig,
    steps: Steps,
    state: State,
    batch: Mapping[str, Any],
) -> dict[str, Any]:
    """What determines a training beside its settings and data, as JSON.

    What the caller wrote is described part by part, so that a difference has a name. What decides
    is the computation: training and evaluation as JAX has traced them, which training does anyway.

    Args:
        model, config: as in `fit`.
        given: to `fit` in place of the usual.
        steps, state, batch: that it trains with.
    """
    augment = config.augment
    known = isinstance(augment, AugmentConfig) and type(augment).__module__.startswith("cnnjax.")
    return {
        "module": _described_module(model),
        "loss": describe(given.loss),
        "optimizer": describe(given.optimizer),
        "schedule": describe(config.schedule) if callable(config.schedule) else None,
        "augment": None if known else describe(augment),
        "sampler": describe(config.sampler),
        "objective": describe(given.objective),
        "own_step": describe(given.step),
        "metrics": describe(dict(given.metrics)) if given.metrics else None,
        "step": program(jax.jit(steps.train).trace(state, batch)),
        "evaluation": program(jax.jit(steps.evaluate).trace(state.variables(), batch)),
        "start": _start(steps.optimizer, state.trained),
        "environment": _environment(),
    }


def _start(optimizer: optax.GradientTransformation | None, parameters: Any) -> dict[str, Any]:
    if optimizer is None:
        return {"hash": "", "counts": {}}
    try:
        return program(jax.jit(optimizer.init).trace(parameters))
    except jax.errors.JAXTypeError:  # it looks at the values, as none of optax does
        return {"hash": "", "counts": {}}


def _described_module(model: Model) -> dict[str, Any]:
    """A module of the caller's; of one of `create_model` its name and arguments say it all."""
    if model.spec.arguments is None:
        return describe(model.module)
    return {"class": model.spec.name, "library": True, "fields": describe(model.spec.arguments)}


@dataclass(frozen=True)
class Change:
    """Something that determines a run and is another one than then.

    Args:
        part: what of, a name of `TrainingConfig.allow_changed`.
        text: a clause that says so.
        code: whether only code differs, and nothing that is given to it.
    """

    part: str
    text: str
    code: bool = False

    def allowed_by(self, names: tuple[str, ...]) -> bool:
        """Whether the names of `allow_changed` allow it."""
        return self.part in names or (self.code and "code" in names)


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[Change], list[str]]:
    """What differs between two identities.

    Args:
        then, now: what `identify` returned.

    Returns:
        (changes, remarks): what makes it another run, and what is worth saying and does not.
    """
    moved = _moved(then, now)
    same_versions = not any(name in moved for name in _VERSIONS)
    same = all(then[name]["hash"] == now[name]["hash"] for name in _PROGRAMS)
    found: list[Change] = []
    remarks: list[str] = []
    for part in _PARTS:
        differing = differences(then.get(part), now.get(part), same_versions=same_versions)
        given, code = any(d.given for d in differing), all(d.code for d in differing)
        name, title = _NAMES.get(part, part), _title(part, now.get(part))
        if differing and (then.get(part) is None or now.get(part) is None):
            missing = "none was given then" if then.get(part) is None else "none is given now"
            found.append(Change(name, f"{title} differs: {missing}"))
        elif given or (differing and (part in _OUTSIDE or not same)):
            found.append(Change(name, f"{title} differs: {_said(differing)}", code=code))
        elif differing:
            remarks.append(
                f"{title} differs ({_said(differing)}), the computation of a step does not"
            )
    if not same and moved:
        where = ", ".join(f"{name} {a} then, {b} now" for name, (a, b) in moved.items())
        remarks.append(
            f"the computation of a step could not be compared with that of then: {where}"
        )
    elif not same and not found:
        found.append(Change("step", _step_change(then, now)))
    return found, remarks


def recorded(record: Mapping[str, Any], where: object) -> dict[str, Any] | None:
    """The identity that a run's record has last; None where there is none.

    Args:
        record: content of run.json.
        where: the run, for the message.

    Raises:
        RunError: if there is one that is damaged.
    """
    entries = [record, *_entries(record)]
    identity = next((e[IDENTITY] for e in reversed(entries) if IDENTITY in e), None)
    if identity is None:
        return None
    whole = isinstance(identity, dict) and isinstance(identity.get("environment"), dict)
    if not whole or not all(_is_program(identity.get(name)) for name in _PROGRAMS):
        raise RunError(
            f"the record of {where} is damaged: what it says of the step is no {IDENTITY}"
        )
    return identity


def refusal(found: list[Change]) -> str:
    """What differs, and how to go on with it: the end of an error's sentence."""
    names = tuple(dict.fromkeys(change.part for change in found))
    return (
        f"{'; '.join(change.text for change in found)}: take what it began with, or go on all the "
        f"same with allow_changed={names!r}"
    )


def _is_program(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("hash"), str)
        and isinstance(value.get("counts"), dict)
    )


def _entries(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    resumed = record.get("resumed", [])
    return [e for e in resumed if isinstance(e, Mapping)] if isinstance(resumed, list) else []


def _environment() -> dict[str, Any]:
    """All that may make another trace of the same step."""
    packages = versions()
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        **{name: packages[name] for name in ("jax", "flax", "optax")},
        "cnnjax": code_version()["sources"],
        "backend": jax.default_backend(),
        "device_count": jax.device_count(),
        "x64": bool(jax.config.read("jax_enable_x64")),
        "conv_engine": current_conv_engine(),
    }


def _moved(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    before, after = then["environment"], now["environment"]
    return {
        name: (before.get(name), value)
        for name, value in after.items()
        if before.get(name) != value
    }


def _title(part: str, description: Any) -> str:
    """Its name; of an optimiser or a step, which are tuples of functions, none."""
    name = _NAMES.get(part, part)
    if name in ("optimizer", "step") and "library" in (description or ()):
        return f"the {name}"
    return f"the {name} {kind_of(description)}".rstrip()


def _said(found: list[Difference]) -> str:
    texts = [difference.text for difference in found]
    more = f" and {len(texts) - _MOST_SHOWN} more" if len(texts) > _MOST_SHOWN else ""
    return ", ".join(texts[:_MOST_SHOWN]) + more


def _step_change(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    name = next(name for name in _PROGRAMS if then[name]["hash"] != now[name]["hash"])
    before, after = then[name]["counts"], now[name]["counts"]
    lines = [
        f"{kind!r} {before.get(kind, 0)} times then, {after.get(kind, 0)} now"
        for kind in dict.fromkeys([*before, *after])
        if before.get(kind, 0) != after.get(kind, 0)
    ]
    shown = ", ".join(lines[:_MOST_SHOWN]) or "the same operations in another order or form"
    return f"{_PROGRAMS[name]} computes something else although no named part differs ({shown})"

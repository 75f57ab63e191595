"""Is a module what a model needs, in evaluation and in training? Only shapes are computed."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
from flax import linen
from flax.errors import InvalidRngError, ModifyScopeVariableError

from cnnjax.core import trees
from cnnjax.core.text import first_sentence, suggest
from cnnjax.models.any_size import check_any_size, check_preprocessing, larger
from cnnjax.models.modules import (
    LOSSES,
    NOT,
    TRAIN_ARGUMENTS,
    Static,
    switches,
    train_kwargs,
    without_axis_names,
)
from cnnjax.models.passes import Pass, evaluation_pass, training_pass
from cnnjax.models.spec import ModelSpec
from cnnjax.task import JointTask, Task

TrainArgument = str | Sequence[str] | Literal[False] | None

# What else a switch may be called, for a `__call__` that takes any argument.
_LIKELY = (*TRAIN_ARGUMENTS, "is_train", "enable_dropout", "inference")

# Names that say that what is sown was to be a part of the loss.
_LOSS = re.compile(
    r"loss|penalt|regulari[sz]|aux|balanc|commitment|(^|_)(cost|kl|l1|l2|reg)($|_)", re.IGNORECASE
)


class _Unfit(ValueError):
    """Why a module cannot be trained as it is called."""


def output_shape(module: linen.Module, spec: ModelSpec) -> Any:
    """(K,) of the logits [N, K] that a module makes of inputs; in general all axes but the first.

    None stands for a size that follows that of the inputs.

    Raises:
        ValueError: if it does not take such inputs or return such logits, or not of any size,
            where the spec says so.
    """
    if not isinstance(module, linen.Module):
        raise ValueError(
            f"module must be a Linen module, got {type(module).__name__}: an NNX one is for "
            "cj.Model.from_nnx"
        )
    check_preprocessing(spec)
    outputs = _outputs(module, spec)
    if not spec.takes_any_size:
        return outputs
    check_any_size(module, spec)
    others = _outputs(module, larger(spec))
    if isinstance(outputs, Mapping):
        return {name: _common(outputs[name], others[name]) for name in outputs}
    return _common(outputs, others)


def _common(one: Sequence[int], other: Sequence[int]) -> tuple[int | None, ...]:
    return tuple(n if n == m else None for n, m in zip(one, other, strict=True))


def _outputs(module: linen.Module, spec: ModelSpec) -> Any:
    """The shape of one example's outputs, for inputs of the sample's size."""
    sample, net = spec.sample(2), type(module).__name__
    kwargs = train_kwargs(module, spec.train_arguments, train=False)
    try:
        with linen.intercept_methods(without_axis_names):
            output, _ = jax.eval_shape(
                lambda x: module.init_with_output(jax.random.key(0), x, **kwargs), sample
            )
    except Exception as error:  # the code is another's, and may raise anything
        raise ValueError(
            f"{net} cannot be applied to inputs of shape {_shape_of(sample)}: "
            f"{first_sentence(error)}{_missing(module, kwargs)}"
        ) from error
    if not isinstance(spec.task, JointTask):
        return _checked_output(net, spec.task, output)
    spec.task.by_name(output, f"outputs of {net}")
    return {
        name: _checked_output(f"{net}, as {name!r},", task, output[name])
        for name, task in spec.task.parts
    }


def _shape_of(sample: Any) -> str:
    """The shape of inputs in a message."""
    if isinstance(sample, Mapping):
        return ", ".join(f"{name} {_shape_of(one)}" for name, one in sample.items())
    return f"[N, {', '.join(map(str, sample.shape[1:]))}]"


def _checked_output(net: str, task: Task, output: Any) -> tuple[int, ...]:
    """The shape of one example's output, which has the axes of its task."""
    axes, count = task.outputs, 2
    fixed = (count, *(axis if isinstance(axis, int) else None for axis in axes[1:]))
    found = getattr(output, "shape", None)
    if (
        found is None
        or len(found) != len(axes)
        or any(size not in (None, n) for size, n in zip(fixed, found, strict=True))
    ):
        found = type(output).__name__ if found is None else found
        wanted = f"[{', '.join(map(str, axes))}]"
        raise ValueError(f"{net} must return logits {wanted}; for N = {count} it returns {found}")
    return tuple(int(n) for n in output.shape[1:])


def checked_names(module: linen.Module, train_argument: TrainArgument) -> tuple[str, ...]:
    """The names that `train_argument` holds, which the module has.

    Raises:
        ValueError: for an argument that the module does not have, or False for one with a switch.
    """
    net = type(module).__name__
    if train_argument is None:
        return ()
    if train_argument is False:
        if known := list(switches(module)):
            raise ValueError(
                f"train_argument=False says that {net} has no switch to training, but it has "
                f"{', '.join(known)}: leave train_argument out, or name the layers that are to "
                "stay in evaluation mode, e.g. unswitched=('*',)"
            )
        return ()
    names = (train_argument,) if isinstance(train_argument, str) else tuple(train_argument)
    arguments = _arguments(module)
    free = any(p.kind is p.VAR_KEYWORD for p in arguments)
    known = [p.name for p in arguments if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    for name in names:
        if not isinstance(name, str) or not (free or name.removeprefix(NOT) in known):
            raise ValueError(
                f"train_argument={name!r} is no argument of {net}.__call__ beside its inputs. "
                f"{suggest(str(name), known, 'arguments')}"
            )
    return names


def checked_switches(
    module: linen.Module,
    sample: jax.ShapeDtypeStruct,
    train_argument: TrainArgument,
    unswitched: Sequence[str],
) -> tuple[str, ...]:
    """The names of the arguments that switch a module to training, as `switches` takes them.

    Args:
        module: that can be applied to the sample.
        sample: of its inputs.
        train_argument, unswitched: as in `Model.from_module`.

    Raises:
        ValueError: if no setting of the switches puts every BatchNorm and Dropout into training
            mode in training and into evaluation mode in evaluation, or if a training would go
            wrong otherwise.
    """
    problems: list[_Unfit] = []
    for names in _meanings(checked_names(module, train_argument)):
        try:
            _check(Static(module, names), sample, train_argument, unswitched)
        except _Unfit as problem:
            problems.append(problem)
        else:
            return names
    raise ValueError(str(problems[0])) from problems[0].__cause__


def _meanings(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Every choice of what the switches mean, the usual one first."""
    choices = []
    for name in names:
        usual = TRAIN_ARGUMENTS.get(name, True)
        both = (name, NOT + name) if usual else (NOT + name, name)
        choices.append((name,) if name.startswith(NOT) else both)
    return itertools.product(*choices)


def _check(
    static: Static,
    sample: jax.ShapeDtypeStruct,
    train_argument: TrainArgument,
    unswitched: Sequence[str],
) -> None:
    net, known = type(static.module).__name__, switches(static.module, static.names)
    evaluated = evaluation_pass(static, sample)
    _check_evaluation(static, sample, evaluated)
    trained = training_pass(static, sample)
    kept = trees.select(trained.layers, unswitched, "unswitched", "BatchNorm or Dropout")
    idle = [path for path, on in trained.layers.items() if not on and path not in kept]
    if idle and train_argument is not False:
        meant = f"unswitched={_patterns(idle)}" if known else "train_argument=False"
        raise _Unfit(
            f"{net}: {trained.named(idle)} would stay in evaluation mode in training"
            f"{_advice(static, sample)}; if this is meant, say so by {meant}"
        )
    if trained.error is not None:
        raise _Unfit(f"{net} cannot be trained: {first_sentence(trained.error)}") from trained.error
    if not trained.acts and train_argument is None and (hidden := _hidden(static, sample)):
        raise _Unfit(
            f"{net}: its argument {hidden!r} changes what it draws or keeps in training, and "
            f"nothing sets it: give train_argument={_with(known, hidden)}, or, to leave it as it "
            f"is, train_argument={_with(known)}"
        )
    if _shapes(trained.outputs) != _shapes(evaluated.outputs):
        raise _Unfit(
            f"{net} must return the same logits in training as in evaluation, not "
            f"{_shapes(trained.outputs)} and {_shapes(evaluated.outputs)}"
        )
    _check_collections(static, sample, trained)


def _check_evaluation(static: Static, sample: jax.ShapeDtypeStruct, seen: Pass) -> None:
    net, error = type(static.module).__name__, seen.error
    active = [path for path, on in seen.layers.items() if on]
    if active:
        what = f"{seen.named(active)} would be in training mode in evaluation too"
    elif isinstance(error, InvalidRngError):
        what = "it would draw random numbers in evaluation too"
    elif isinstance(error, ModifyScopeVariableError):
        what = "it would change its variables in evaluation too"
    elif error is not None:
        raise _Unfit(f"{net} cannot be evaluated: {first_sentence(error)}") from error
    else:
        return
    raise _Unfit(f"{net}: {what}{_advice(static, sample)}") from error


def _check_collections(static: Static, sample: jax.ShapeDtypeStruct, trained: Pass) -> None:
    """That nothing which a training pass leaves behind is forgotten by a training."""
    net = type(static.module).__name__
    _check_losses(net, sample, trained)
    made = {path: noted for path, noted in trained.made.items() if path not in trained.losses}
    for path, noted in made.items():
        names = path.split("/")  # those between are of modules, as an "aux_head" that sows maps
        if any(map(_LOSS.search, (names[0], names[-1]) if noted else names[:1])):
            raise _Unfit(
                f"{net} sows {path}, which a training would not add to its loss: sow it into the "
                f"collection {LOSSES!r}, or call it something that is no loss"
            )
    kept = {path.partition("/")[0] for path, noted in made.items() if noted is False}
    new = [path for path, noted in made.items() if noted is None]
    if not new:
        return
    # What is sown with a function of its own looks like a variable, and is left out as well.
    alone = training_pass(static, sample, mutable=sorted(kept))
    if alone.error is not None or any(path.partition("/")[0] in kept for path in new):
        raise _Unfit(
            f"{net} makes the variable {new[0]} in training only, where there is no place for it: "
            "make it at initialisation too"
        ) from alone.error


def _check_losses(net: str, sample: jax.ShapeDtypeStruct, trained: Pass) -> None:
    """That what is sown to be added to the loss can be added."""
    for path, shapes in trained.losses.items():
        for shape in shapes:
            if shape not in ((), sample.shape[:1]):
                raise _Unfit(
                    f"{net} sows {path} of shape {list(shape)} for {sample.shape[0]} examples, and "
                    "a loss is a scalar or one value per example: sow its sum or mean"
                )


def _advice(static: Static, sample: jax.ShapeDtypeStruct) -> str:
    """How the layers in the wrong mode are reached."""
    known, call = switches(static.module, static.names), f"{type(static.module).__name__}.__call__"
    if usual := getattr(static.module, "switched_by", None):
        return f", whatever {usual} say: leave its mode to them"
    if hidden := _hidden(static, sample):
        return (
            f": {hidden!r} of {call} switches this, so give train_argument={_with(known, hidden)}"
        )
    if known:
        given = ", ".join(f"{name}={on}" for name, on in known.items())
        return (
            f", although {call} gets {given} in training: pass it on to every layer that needs it"
        )
    return (
        f": no argument of {call} switches this, so give it one, e.g. train (of another name: "
        "train_argument='name'), and pass it on"
    )


def _hidden(static: Static, sample: jax.ShapeDtypeStruct) -> str | None:
    """The first argument of `__call__` that nothing sets, and that changes the training pass."""
    known = switches(static.module, static.names)
    names = tuple(name if on else NOT + name for name, on in known.items())
    usual = training_pass(static, sample)
    for argument in _candidates(static.module):
        if argument in known:
            continue
        for name in (argument, NOT + argument):
            other = training_pass(Static(static.module, (*names, name)), sample)
            if other.error is None and (other.layers, other.acts) != (usual.layers, usual.acts):
                return argument
    return None


def _candidates(module: linen.Module) -> list[str]:
    """Arguments that may be switches."""
    arguments = _arguments(module)
    named = [p.name for p in arguments if p.default is None or isinstance(p.default, bool)]
    free = any(p.kind is p.VAR_KEYWORD for p in arguments)
    return named + [name for name in _LIKELY if free and name not in named]


def _arguments(module: linen.Module) -> list[inspect.Parameter]:
    """The arguments of a module's `__call__` after its inputs."""
    return list(inspect.signature(type(module).__call__).parameters.values())[2:]


def _missing(module: linen.Module, kwargs: Mapping[str, Any]) -> str:
    """What `__call__` needs and does not get, as the end of a message."""
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    names = [
        p.name
        for p in _arguments(module)
        if p.default is p.empty and p.kind not in variadic and p.name not in kwargs
    ]
    if not names:
        return ""
    return (
        f"; a model has one input, so its __call__ must do without {', '.join(names)}, but a "
        f"switch to training is named by train_argument={names[0]!r}"
    )


def _with(known: Mapping[str, bool], *more: str) -> str:
    """The value of `train_argument` that names these switches."""
    names = (*known, *more)
    return repr(names if len(names) > 1 else names[0] if names else False)


def _patterns(layers: Sequence[str]) -> str:
    """Names of layers as the value of an argument, the first few."""
    return repr(tuple(layers)) if len(layers) <= 3 else f"({', '.join(map(repr, layers[:3]))}, ...)"


def _shapes(outputs: Any) -> Any:
    return jax.tree.map(lambda leaf: list(leaf.shape), outputs)

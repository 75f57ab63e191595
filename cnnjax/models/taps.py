"""Reading, editing and cutting a net at its layers: the one interceptor of Linen's calls."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen
from jax import Array
from jax.extend.core import get_opaque_trace_state

from cnnjax.core import trees
from cnnjax.core.text import suggest
from cnnjax.models.inner_values import Traced, marked, traced
from cnnjax.models.modules import Static, Variables, forward


class Visit(NamedTuple):
    """A call of a layer that is about to happen.

    Args:
        path: of the layer, e.g. "block1/conv"; of the module itself what it is called.
        module: the layer.
        args, kwargs: what it is called with.
        proceed: makes the call; returns the layer's output.
    """

    path: str
    module: linen.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    proceed: Callable[[], Any]


class Stop(Exception):
    """Raised by what watches a net to leave it at a layer.

    Args:
        value: what was wanted of the net.
    """

    def __init__(self, value: Any = None):
        super().__init__()
        self.value = value


@contextlib.contextmanager
def watched(watch: Callable[[Visit], Any], root: str = "") -> Iterator[None]:
    """Let every call of a layer go through a function.

    Args:
        watch: returns what the caller of the layer gets, e.g. `visit.proceed()`.
        root: path of the module itself.
    """

    inside: list[linen.Module] = []  # whose calls are going on

    def interceptor(next_function: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        # A `__call__` that calls that of its base class is one call.
        if context.method_name != "__call__" or (inside and inside[-1] is module):
            return next_function(*args, **kwargs)
        path = trees.join(module.path) or root
        inside.append(module)
        try:
            return watch(Visit(path, module, args, kwargs, lambda: next_function(*args, **kwargs)))
        finally:
            inside.pop()

    with linen.intercept_methods(interceptor):
        yield


class Kept(NamedTuple):
    """What an edit returns that wants something else to be read than the layer's output.

    Args:
        output: what the layer's caller gets.
        value: what is read of this call, a tree of arrays.
    """

    output: Any
    value: Any


class Reading(NamedTuple):
    """What a run showed.

    Args:
        outputs: of the module; None where the run stopped at a layer.
        layers: path -> the output of each call of that layer, in the order of the calls.
    """

    outputs: Any
    layers: dict[str, list[Any]]


Edit = Callable[[Visit], Any]


def place(layer: str) -> tuple[str, int | None]:
    """A layer's path, and which of its calls is meant; None where none is named.

    >>> place("blocks/conv@2"), place("conv1")
    (('blocks/conv', 2), ('conv1', None))
    """
    path, _, call = layer.rpartition("@")
    return (path, int(call)) if path and call.isdecimal() else (layer, None)


def which_call(layer: str, count: int) -> int:
    """The number of the call that a name like "blocks/conv@2" means, of so many.

    Raises:
        ValueError: where none is named of several, or one that there is not.
    """
    path, call = place(layer)
    if call is None and count > 1:
        raise ValueError(
            f"layer={layer!r} is called {count} times, so it has no single map: take one that is "
            f"called once, or one call by number, e.g. layer='{path}@{count - 1}' for the last"
        )
    if call is not None and call >= count:
        raise ValueError(
            f"layer={layer!r}, but {path!r} is called {count} times: its calls are @0 to "
            f"@{count - 1}"
        )
    return call or 0


def run(
    static: Static,
    variables: Variables,
    inputs: Any,
    *,
    root: str = "",
    read: Sequence[str] = (),
    edit: Edit | None = None,
    stop_at: str | None = None,
    add: Mapping[tuple[str, int], Array] | None = None,
) -> Reading:
    """Apply a module in evaluation, and read, edit or leave it at layers; may be traced.

    A layer within `nn.scan` is called once in each round of the loop, from the first to the last.
    Within `nn.scan` and `nn.remat` a net is not left at a layer, but where the loop ends: compiled
    that comes to the same, since what nothing needs is not computed.

    Args:
        static: the module.
        variables: of the model.
        inputs: preprocessed, [N, ...].
        root: what the module itself is called, `model.spec.name`.
        read: paths of layers whose outputs are wanted, as their callers get them.
        edit: makes the calls of all layers, or something else in their place: takes a `Visit`,
            returns the output that the layer's caller gets, or a `Kept`. In `nn.scan` one visit
            stands for all rounds.
        stop_at: a layer, which is read, and at whose first call, or the one that is named as in
            `place`, the run ends.
        add: (path, number of the call) -> what is added to that call's output, an array; the path
            must be one of `read`.

    Raises:
        ValueError: for a path of which no layer was called; offers the nearest.

    >>> import cnnjax as cj, numpy as np
    >>> model = cj.create_model("mnist_convnet")
    >>> images = np.zeros((1, 28, 28, 1), np.float32)
    >>> outputs, layers = run(model.static, model.variables, images, read=["conv1"])
    >>> outputs.shape, [output.shape for output in layers["conv1"]]
    ((1, 10), [(1, 26, 26, 32)])
    """
    last, last_call = (None, 0) if stop_at is None else place(stop_at)
    wanted = {*read, *([] if last is None else [last])}
    added = dict(add or {})
    layers: dict[str, list[Any]] = {}
    visited: dict[str, bool] = {}  # path -> whether a call lay within another trace
    is_outside = _here()

    def watch(visit: Visit) -> Any:
        if visited.get(last or "") and is_outside():
            raise Stop
        output, value = _edited(visit, edit)
        within = not is_outside()
        visited[visit.path] = visited.get(visit.path, False) or within
        if visit.path in wanted:
            calls = layers.setdefault(visit.path, [])
            if (delta := added.get((visit.path, len(calls)))) is not None:
                output = value = output + delta
            calls.append(value)
            if visit.path == last and len(calls) > (last_call or 0) and not within:
                raise Stop
        return output

    outputs = None
    with contextlib.suppress(Stop), watched(watch, root):
        outputs = forward(static, variables, inputs)
    for path in wanted - set(visited):
        raise ValueError(
            f"{type(static.module).__name__} called no layer {path!r}. "
            f"{suggest(path, visited, 'layers')}"
        )
    if any(visited[path] for path in wanted):
        return _run_marked(static, variables, inputs, root, wanted, edit, added, last)
    return Reading(outputs, layers)


def _here() -> Callable[[], bool]:
    """A function that tells whether it is called in this trace, and not within a loop's or such."""
    state = get_opaque_trace_state(convention="flax")
    return lambda: bool(get_opaque_trace_state(convention="flax") == state)


def _edited(visit: Visit, edit: Edit | None) -> Kept:
    """What a layer's caller gets of a call, and what is read of it."""
    output = visit.proceed() if edit is None else edit(visit)
    return output if isinstance(output, Kept) else Kept(output, output)


def _run_marked(
    static: Static,
    variables: Variables,
    inputs: Any,
    root: str,
    wanted: set[str],
    edit: Edit | None,
    added: Mapping[tuple[str, int], Array],
    last: str | None,
) -> Reading:
    """`run` where a value cannot simply be kept, since it is one of a loop's, or of a remat's."""
    visits: list[tuple[str, Any]] = []  # of each the path, and the form of what is read

    def watch(visit: Visit, is_outside: Callable[[], bool]) -> Any:
        if any(path == last for path, _ in visits) and is_outside():
            raise Stop
        output, value = _edited(visit, edit)
        if visit.path not in wanted:
            return output
        leaves, form = jax.tree.flatten(value)
        visits.append((visit.path, form))
        names = [f"{len(visits) - 1}/{i}" for i in range(len(leaves))]
        kept = jax.tree.unflatten(form, list(map(marked, leaves, names)))
        return kept if value is output else output

    def program(variables: Variables, inputs: Any) -> Any:
        with contextlib.suppress(Stop), watched(functools.partial(watch, is_outside=_here()), root):
            return forward(static, variables, inputs)

    whole = traced(program, variables, inputs)
    paths = [path for path, _ in visits]
    outputs, values = whole.evaluate((variables, inputs), _by_mark(whole, paths, added))
    layers: dict[str, list[Any]] = {path: [] for path in wanted}
    for number, (path, form) in enumerate(visits):
        leaves = [values.get(f"{number}/{i}", []) for i in range(form.num_leaves)]
        layers[path] += [jax.tree.unflatten(form, call) for call in zip(*leaves, strict=True)]
    return Reading(outputs, layers)


def _by_mark(
    whole: Traced, paths: list[str], added: Mapping[tuple[str, int], Array]
) -> dict[str, Array]:
    """What is added to calls of layers as what is added to the rounds of marks."""
    by_mark: dict[str, Array] = {}
    calls = dict.fromkeys(paths, 0)
    for number, path in enumerate(paths):
        mark = f"{number}/0"
        rounds = whole.rounds.get(mark, 0)  # none where Flax traced a loop only for its shapes
        for i in range(rounds):
            if (delta := added.get((path, calls[path] + i))) is not None:
                before = by_mark.get(mark, jnp.zeros((rounds, *delta.shape), delta.dtype))
                by_mark[mark] = before.at[i].set(delta)
        calls[path] += rounds
    return by_mark

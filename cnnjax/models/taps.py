"""Reading, editing and cutting a net at its layers: the one interceptor of Linen's calls."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
from flax import linen
from jax import Array
from jax.extend.core import get_opaque_trace_state

from cnnjax.core import trees
from cnnjax.core.text import suggest
from cnnjax.models.inner_values import marked, with_marked
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

    def interceptor(next_function: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name != "__call__":
            return next_function(*args, **kwargs)
        module = context.module
        path = trees.join(module.path) or root
        return watch(Visit(path, module, args, kwargs, lambda: next_function(*args, **kwargs)))

    with linen.intercept_methods(interceptor):
        yield


class Reading(NamedTuple):
    """What a run showed.

    Args:
        outputs: of the module; None where the run stopped at a layer.
        layers: path -> the output of each call of that layer, in the order of the calls.
    """

    outputs: Any
    layers: dict[str, list[Any]]


def run(
    static: Static,
    variables: Variables,
    inputs: Array,
    *,
    root: str = "",
    read: Sequence[str] = (),
    edit: Callable[[Visit], Any] | None = None,
    stop_at: str | None = None,
) -> Reading:
    """Apply a module in evaluation, and read, edit or leave it at layers; may be traced.

    A layer within `nn.scan` is called once in each round of the loop, from the first to the last.
    Within `nn.scan` and `nn.remat` a net is not left at a layer, but read, which compiled comes to
    the same: what nothing needs is not computed.

    Args:
        static: the module.
        variables: of the model.
        inputs: preprocessed, [N, ...].
        root: what the module itself is called, `model.spec.name`.
        read: paths of layers whose outputs are wanted, as their callers get them.
        edit: makes the calls of all layers, or something else in their place: takes a `Visit`,
            returns the output that the layer's caller gets.
        stop_at: path of a layer, which is read, and at whose first call the run ends.

    Raises:
        ValueError: for a path of which no layer was called; offers the nearest.

    >>> import cnnjax as cj, numpy as np
    >>> model = cj.create_model("mnist_convnet")
    >>> images = np.zeros((1, 28, 28, 1), np.float32)
    >>> outputs, layers = run(model.static, model.variables, images, read=["conv1"])
    >>> outputs.shape, [output.shape for output in layers["conv1"]]
    ((1, 10), [(1, 26, 26, 32)])
    """
    wanted = {*read, *([] if stop_at is None else [stop_at])}
    layers: dict[str, list[Any]] = {}
    visited: dict[str, bool] = {}  # path -> whether a call lay within another trace
    outside = get_opaque_trace_state(convention="flax")

    def watch(visit: Visit) -> Any:
        output = visit.proceed() if edit is None else edit(visit)
        within = get_opaque_trace_state(convention="flax") != outside
        visited[visit.path] = visited.get(visit.path, False) or within
        if visit.path in wanted:
            layers.setdefault(visit.path, []).append(output)
            if visit.path == stop_at and not within:
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
        return _run_marked(static, variables, inputs, root, wanted, edit)
    return Reading(outputs, layers)


def _run_marked(
    static: Static,
    variables: Variables,
    inputs: Array,
    root: str,
    wanted: set[str],
    edit: Callable[[Visit], Any] | None,
) -> Reading:
    """`run` where a value cannot simply be kept, since it is one of a loop's, or of a remat's."""
    found: list[tuple[str, Any]] = []  # of each call the path, and the form of its output

    def watch(visit: Visit) -> Any:
        output = visit.proceed() if edit is None else edit(visit)
        if visit.path not in wanted:
            return output
        leaves, form = jax.tree.flatten(output)
        found.append((visit.path, form))
        return jax.tree.unflatten(
            form, [marked(leaf, f"{len(found) - 1}/{i}") for i, leaf in enumerate(leaves)]
        )

    def program(variables: Variables, inputs: Array) -> Any:
        with watched(watch, root):
            return forward(static, variables, inputs)

    outputs, values = with_marked(program, variables, inputs)
    layers: dict[str, list[Any]] = {path: [] for path in wanted}
    for number, (path, form) in enumerate(found):
        leaves = [values.get(f"{number}/{i}", []) for i in range(form.num_leaves)]
        layers[path] += [jax.tree.unflatten(form, call) for call in zip(*leaves, strict=True)]
    return Reading(outputs, layers)

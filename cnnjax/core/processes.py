"""Several processes that compute together: the first one writes, and all come to one decision.

Everything goes through JAX's own coordination service; with one process nothing is sent.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.core.coordination import ProcessFailed, check_joined, tell, wait_for
from cnnjax.core.meeting import Meeting
from cnnjax.core.text import first_sentence

T = TypeVar("T")

_questions, _meetings = itertools.count(), itertools.count()

# What all processes do now.
_current: ContextVar[Meeting | None] = ContextVar("current", default=None)

# Whether the first process makes what `agreed` asks for: what it calls there is its business alone.
_alone: ContextVar[bool] = ContextVar("alone", default=False)


def count() -> int:
    """Number of processes that compute together."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def index() -> int:
    """Which of them this one is, counted from 0."""
    return jax.process_index() if jax.distributed.is_initialized() else 0


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return index() == 0


def agreed(make: Callable[[], T]) -> T:
    """What the first process makes, in all of them; or its error, in all of them.

    All processes have to call it, in the same order.

    Args:
        make: returns what JSON holds; called in the first process alone.

    Raises:
        ProcessFailed: in the others, where it raises an error in the first one, or a process is
            lost meanwhile.

    >>> agreed(lambda: 3)
    3
    """
    if count() == 1 or _alone.get():
        return make()
    # Counted anew in each meeting, out of which an error may have led one before another.
    meeting = _current.get()
    number = next(meeting.questions if meeting else _questions)
    name = f"answers/{meeting.name if meeting else 'outside'}/{number}"
    if not is_first():
        answer = json.loads(wait_for(name, check))
        if "error" in answer:
            raise ProcessFailed(f"process 0 failed: {answer['error']}")
        return answer["value"]
    try:
        with alone():
            answer = {"value": make()}
            text = json.dumps(answer)
    except BaseException as error:  # the others must not wait for what never comes
        tell(name, json.dumps({"error": described(error)}))
        raise
    tell(name, text)
    return json.loads(text)["value"]


def first_then_others(load: Callable[[], T]) -> T:
    """Let the first process load, and fill the caches that it fills, before the others do.

    Args:
        load: called once in every process; returns anything.
    """
    mine: list[T] = []
    agreed(lambda: mine.append(load()))
    return mine[0] if mine else load()


def check_alike(what: str, given: Mapping[str, Any]) -> None:
    """Refuse processes of which one is given something else than the first one.

    Each would compute its part of something else, and the sum of the parts is nothing.

    Args:
        what: all do, for the message.
        given: to this process, by name, as JSON; called in all processes.

    Raises:
        ValueError: in the process that differs.
        ProcessFailed: in the others.
    """
    theirs, mine = agreed(lambda: given), json.loads(json.dumps(given))
    differing = [
        _difference(name, mine.get(name), theirs.get(name))
        for name in dict.fromkeys([*mine, *theirs])
        if mine.get(name) != theirs.get(name)
    ]
    if differing:
        raise ValueError(
            f"{what} has to be given the same in all processes, and process {index()} is given, "
            f"compared with process 0: {'; '.join(differing)}"
        )
    meet()


@contextmanager
def alone() -> Iterator[None]:
    """What a process does here is its business alone: nobody is asked or told."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


@contextmanager
def together(what: str) -> Iterator[None]:
    """What all processes do at one time: it ends in all of them where it ends in one.

    They begin once all are there, and leave once all are done. An error in one ends the others too,
    with a sentence that says so: where they notice by themselves as `ProcessFailed`, and after
    `meeting.GRACE_SECONDS` by the end of the process, which may be waiting on its device for ever.
    A process that is lost, or hangs as a whole, ends the others after `meeting.LOST_SECONDS`.
    With one process it changes nothing.

    Args:
        what: they do, for messages.

    Raises:
        ValueError: where the environment speaks of several processes that never joined.
        ProcessFailed: if another process failed or is lost.
    """
    check_joined(what)
    if count() == 1 or _alone.get():
        yield
        return
    meeting = Meeting(what, f"meeting-{next(_meetings)}")
    token = _current.set(meeting)
    try:
        meeting.begin()
        yield
        meeting.wait_for_all("done")
    except BaseException as error:
        meeting.fail(error, described(error))
        raise
    finally:
        _current.reset(token)
        meeting.end()


def check() -> None:
    """Whether what all processes do can go on.

    Raises:
        ProcessFailed: if another process failed or is lost.
    """
    if (meeting := _current.get()) is not None:
        meeting.check()


def ask_to_stop() -> None:
    """Have all processes stop after one and the same step; a signal's handler may call it."""
    if (meeting := _current.get()) is not None:
        meeting.stop.asked = True


def stops_after(done: int) -> bool:
    """Whether all processes stop here, since one of them was asked to; never with one process.

    Args:
        done: steps so far; every process calls this with the same growing numbers.

    Raises:
        ProcessFailed: if another process failed or is lost.
    """
    meeting = _current.get()
    return meeting is not None and meeting.stops_after(done)


def same_everywhere(tree: Any) -> Any:
    """The first process' arrays in all of them, to the bit; with one process the tree itself.

    Another processor may round initial values otherwise, and the first process alone reads files.

    Args:
        tree: of arrays that each process has whole, of the same shapes and dtypes in all.

    Returns:
        The tree in NumPy arrays, typed random keys as such.
    """
    if count() == 1 or _alone.get():
        return tree
    from jax.experimental import multihost_utils

    leaves, structure = jax.tree.flatten(tree)
    hosts = [on_host(jax.random.key_data(leaf) if is_key(leaf) else leaf) for leaf in leaves]
    meet()
    # Its bytes: in sums of numbers -0.0 would become 0.0. As one array: a transfer for each leaf
    # costs more than its bytes.
    flat = np.concatenate([np.zeros(0, np.uint8), *(_bytes(host) for host in hosts)])
    flat = np.asarray(multihost_utils.broadcast_one_to_all(flat))
    parts = np.split(flat, np.cumsum([host.nbytes for host in hosts])[:-1])
    whole = [
        part.astype(np.uint8).view(host.dtype).reshape(host.shape)
        for part, host in zip(parts, hosts, strict=True)
    ]
    return jax.tree.unflatten(
        structure,
        [
            key_of(host, leaf) if is_key(leaf) else host
            for leaf, host in zip(leaves, whole, strict=True)
        ],
    )


def meet() -> None:
    """Go on once all processes are here: the first operation over devices waits half a minute."""
    if (meeting := _current.get()) is not None and not _alone.get():
        meeting.wait_for_all(f"met-{next(meeting.met)}")


def is_key(leaf: Any) -> bool:
    """Whether an array is one of typed random keys."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def key_of(data: Any, like: Any) -> jax.Array:
    """Typed random keys of their data, of the kind of others."""
    return jax.random.wrap_key_data(jnp.asarray(data), impl=jax.random.key_impl(like))


def on_host(leaf: Any) -> np.ndarray:
    """A copy of a whole array, wherever its parts lie; all processes have to call it.

    Args:
        leaf: an array; not a typed random key.
    """
    if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
        from jax.experimental import multihost_utils

        return np.array(multihost_utils.process_allgather(leaf, tiled=True))
    return np.array(leaf)


def described(error: BaseException) -> str:
    """An error in one sentence."""
    return f"{type(error).__name__}: {first_sentence(error)}"


def _difference(name: str, mine: Any, theirs: Any) -> str:
    if isinstance(mine, list | dict) or isinstance(theirs, list | dict):
        return f"other {name}"
    return f"{name}={mine!r}, not {theirs!r}"


def _bytes(host: np.ndarray) -> np.ndarray:
    return np.frombuffer(np.ascontiguousarray(host).tobytes(), np.uint8)

"""How several processes find one another, and what they say, by JAX's coordination service.

`cnnjax.core.processes` is what everybody else uses.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import jax

# For so long a process waits for the others to come.
MEETING_SECONDS = 120

# JAX itself ends a process with several lines after so long without a sign of another one.
_HEARTBEAT_SECONDS = 180

_LEAVING_SECONDS = 5

# Below it stands which processes are over.
LEFT = "left"

_somebody_is_lost = threading.Event()

_ANSWER_MS = 1000
_LOOKING_SECONDS = 0.2
_ROOT = "cnnjax"
_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


class ProcessFailed(ValueError):
    """Another process failed, hangs or is lost, so that this one cannot go on."""


def join() -> None:
    """Become one of the processes that the environment speaks of; before anything is computed.

    JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID, or what
    Slurm, Open MPI, Kubernetes or a TPU pod say, as `jax.distributed.initialize` reads it. Who is
    not met within `MEETING_SECONDS` ends this process with a sentence.

    Raises:
        ValueError: where the environment speaks of no other process, or of half of it, or
            something was computed already.
    """
    if jax.distributed.is_initialized():
        return
    given = {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}
    options: dict[str, Any] = {}
    if given:
        options = _options(given)
    before = signal.getsignal(signal.SIGTERM)
    timer = threading.Timer(MEETING_SECONDS, _nobody_came, [given])
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(
            **options,
            initialization_timeout=2 * MEETING_SECONDS,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=MEETING_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        raise ValueError(_why_not(error)) from None
    finally:
        timer.cancel()
    atexit.register(_leave)  # before JAX does
    # JAX takes the signal for a notice that says nothing outside of a training.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def check_joined(what: str) -> None:
    """Refuse a process that was started as one of several, and never joined them.

    Args:
        what: it is about to do, e.g. "fit".

    Raises:
        ValueError: if it was, each process then doing all of it alone.
    """
    if jax.distributed.is_initialized():
        return
    count = os.environ.get("JAX_NUM_PROCESSES", "")
    if jax.process_count() > 1 or (count.isdecimal() and int(count) > 1):
        spoken = f"JAX_NUM_PROCESSES is {count}" if count else "jax.process_count() is above 1"
        raise ValueError(
            f"{what} runs in one process of several that have not joined, as {spoken}: begin with "
            "cj.configure_runtime(distributed=True), on the command line --distributed"
        )


def tell(name: str, text: str, *, anew: bool = False) -> None:
    """Say something to all processes.

    Args:
        name: of what is said, by parts with "/".
        text: that is said.
        anew: in place of what was said before, which else is an error.
    """
    _client().key_value_set(f"{_ROOT}/{name}", text, allow_overwrite=anew)


def wait_for(name: str, check: Callable[[], None]) -> str:
    """What a process says, once it does.

    Args:
        name: as in `tell`.
        check: called every second; raises an error where it will not come.
    """
    over = False
    while True:
        check()
        try:
            return _client().blocking_key_value_get(f"{_ROOT}/{name}", _ANSWER_MS)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise ProcessFailed(f"process 0 is gone: {AGAIN}") from None
        if over:
            raise ProcessFailed(f"process 0 is over: {AGAIN}")
        over = "0" in heard(LEFT)  # what it said last is there at the next look


def heard(name: str) -> dict[str, str]:
    """All that was said below a name so far, by the rest of the names."""
    below = f"{_ROOT}/{name}/"
    return {key.removeprefix(below): text for key, text in _client().key_value_dir_get(below)}


AGAIN = "start all processes again, with resume=True (--resume) where there is a run directory"


def give_up() -> None:
    """Wait for nobody at the end of this process, since another one is lost."""
    _somebody_is_lost.set()


def end_process(sentence: str) -> None:
    """End this process, whatever it waits for, with a sentence on stderr."""
    _say(sentence)
    _end_at_once()


def _leave() -> None:
    """At the end of this process: wait for the others, however long the first one still reports.

    JAX waits `MEETING_SECONDS` for them and then ends all with an error. Nobody waits for a lost
    process, nor where the first one is over, through which they speak.
    """
    if not jax.distributed.is_initialized():
        return
    _say_goodbye()
    with suppress(jax.errors.JaxRuntimeError):
        while not _somebody_is_lost.is_set() and len(heard(LEFT)) < jax.process_count():
            time.sleep(_LOOKING_SECONDS)
    if _somebody_is_lost.is_set():
        _end_at_once()


def _say_goodbye() -> None:
    with suppress(jax.errors.JaxRuntimeError):  # where the first one is gone nobody hears it
        tell(f"{LEFT}/{jax.process_index()}", "", anew=True)


def _end_at_once() -> None:
    _say_goodbye()
    # The others may still speak through this one: it leaves with them where they are leaving.
    leaving = threading.Thread(target=jax.distributed.shutdown, daemon=True)
    leaving.start()
    leaving.join(_LEAVING_SECONDS)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _client() -> Any:
    from jax._src import distributed  # what `multihost_utils` and Orbax speak through, too

    return distributed.global_state.client


def _options(given: dict[str, str]) -> dict[str, Any]:
    """What the variables of JAX say."""
    missing = [name for name in _VARIABLES if name not in given]
    if missing:
        raise ValueError(
            f"distributed=True: {', '.join(missing)} must be set too where {next(iter(given))} is"
        )
    address, count, index = (given[name].strip() for name in _VARIABLES)
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"JAX_COORDINATOR_ADDRESS must be host:port, got {address!r}")
    if not count.isdecimal() or int(count) < 1:
        raise ValueError(f"JAX_NUM_PROCESSES must be a whole number from 1 on, got {count!r}")
    if not index.isdecimal() or int(index) >= int(count):
        raise ValueError(
            f"JAX_PROCESS_ID must be a whole number from 0 to {int(count) - 1}, as "
            f"JAX_NUM_PROCESSES is {count}, got {index!r}"
        )
    return {
        "coordinator_address": address,
        "num_processes": int(count),
        "process_id": int(index),
        "cluster_detection_method": "deactivate",
    }


def _why_not(error: Exception) -> str:
    text = str(error)
    if "before any JAX calls" in text:
        return (
            "distributed=True must come before anything is computed: call "
            "cj.configure_runtime(distributed=True) first"
        )
    if "coordinator_address should be defined" in text:
        return (
            f"distributed=True finds no other processes: set {', '.join(_VARIABLES)}, or start it "
            "under Slurm, Open MPI, Kubernetes or on a TPU pod"
        )
    return f"distributed=True: the processes cannot meet ({text.splitlines()[0][:200]})"


def _nobody_came(given: dict[str, str]) -> None:
    where = f" at {given['JAX_COORDINATOR_ADDRESS']}" if given else ""
    _say(
        f"distributed=True: the processes did not meet{where} within {MEETING_SECONDS} seconds: "
        "start all of them, with one coordinator address that all can reach"
    )
    os._exit(1)  # JAX would end it too, with pages of its own


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
    sys.stdout.flush()

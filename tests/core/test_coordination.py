"""What the environment says of other processes is checked before anything is waited for."""

from __future__ import annotations

import re
import socket

import jax
import pytest
from commands import python

import cnnjax as cj
from cnnjax.core import coordination, processes

ALL = {
    "JAX_COORDINATOR_ADDRESS": "127.0.0.1:1234",
    "JAX_NUM_PROCESSES": "2",
    "JAX_PROCESS_ID": "1",
}


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ALL:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"JAX_PROCESS_ID": ""}, "JAX_PROCESS_ID must be set too where JAX_COORDINATOR_ADDRESS is"),
        (
            {"JAX_COORDINATOR_ADDRESS": "", "JAX_PROCESS_ID": ""},
            "JAX_COORDINATOR_ADDRESS, JAX_PROCESS_ID must be set too where JAX_NUM_PROCESSES is",
        ),
        ({"JAX_COORDINATOR_ADDRESS": "host"}, "JAX_COORDINATOR_ADDRESS must be host:port"),
        ({"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES must be a whole number from 1 on"),
        ({"JAX_PROCESS_ID": "2"}, "JAX_PROCESS_ID must be a whole number from 0 to 1"),
    ],
)
def test_an_environment_that_cannot_be_meant_is_refused(
    changed: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**ALL, **changed}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=re.escape(message)):
        cj.configure_runtime(distributed=True)


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (
            RuntimeError("jax.distributed.initialize() must be called before any JAX calls that"),
            "distributed=True must come before anything is computed",
        ),
        (
            ValueError("coordinator_address should be defined."),
            "distributed=True finds no other processes: set JAX_COORDINATOR_ADDRESS",
        ),
        (RuntimeError("no route\nmore"), "the processes cannot meet (no route)"),
    ],
)
def test_processes_that_cannot_meet_say_why(
    raised: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise raised

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(ValueError, match=re.escape(message)):
        coordination.join()


def test_a_process_alone_asks_and_waits_for_nobody() -> None:
    assert (processes.count(), processes.index(), processes.is_first()) == (1, 0, True)
    with processes.together("fit"):
        assert processes.agreed(lambda: (1, 2)) == (1, 2)
        assert processes.first_then_others(lambda: {3}) == {3}
        processes.ask_to_stop()
        assert not processes.stops_after(1)
    tree = {"a": object()}
    assert processes.same_everywhere(tree) is tree


@pytest.mark.thorough
@pytest.mark.parametrize("index", ["0", "1"])
def test_a_process_that_waits_in_vain_says_so(index: str) -> None:
    code = (
        "from cnnjax.core import coordination; coordination.MEETING_SECONDS = 2; "
        "coordination.join()"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    joined = {**ALL, "JAX_COORDINATOR_ADDRESS": address, "JAX_PROCESS_ID": index}
    done = python("-c", code, status=1, **joined)
    assert f"the processes did not meet at {address} within 2 seconds: start all" in done.stderr

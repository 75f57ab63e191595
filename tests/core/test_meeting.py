"""Processes in one process: what is said goes through a dictionary."""

from __future__ import annotations

import jax
import pytest

from cnnjax.core import meeting
from cnnjax.core.coordination import ProcessFailed
from cnnjax.core.meeting import Meeting, StopVote


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What has been said; this is process 0 of 2."""
    said: dict[str, str] = {}
    monkeypatch.setattr(meeting, "tell", lambda name, text, anew=False: said.update({name: text}))
    monkeypatch.setattr(
        meeting,
        "heard",
        lambda name: {k.removeprefix(f"{name}/"): v for k, v in said.items() if name in k},
    )
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 0)
    return said


def test_all_stop_at_the_next_place_after_the_furthest(board: dict[str, str]) -> None:
    vote = StopVote("m")
    assert vote.after(3) is False
    vote.asked = True
    vote.hear({})
    assert board == {"m/stop": ""}
    vote.hear({"stop": ""})
    assert board["m/steps/0"] == "3"
    assert vote.after(4) is None, "how far the others are is not known"
    vote.hear({"stop": "", "steps/0": "3", "steps/1": "5"})
    assert [vote.after(done) for done in (4, 5, 6)] == [False, False, True]


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time by the clock, which stands until it is set."""
    time = [0.0]
    monkeypatch.setattr(meeting.time, "monotonic", lambda: time[0])
    return time


def test_a_silent_process_is_lost(
    board: dict[str, str], now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "give_up", lambda: None)
    one = Meeting("fit", "m")
    board |= {"m/begun/0": "", "m/begun/1": ""}
    for now[0] in (0.0, 50.0, 100.0):
        board |= {"m/pulse/0": str(now[0]), "m/pulse/1": str(min(now[0], 50.0))}
        one._hear()
        one.check()
    now[0] = 111.0
    board["m/pulse/0"] = "111"
    one._hear()
    with pytest.raises(ProcessFailed, match="fit ended: process 1 was silent for 60 seconds"):
        one.check()


@pytest.mark.parametrize("marks", [(), ("begun", "done")], ids=["loads", "is-done"])
def test_a_process_that_loads_or_is_done_may_be_silent(
    board: dict[str, str], now: list[float], marks: tuple[str, ...]
) -> None:
    one = Meeting("fit", "m")
    board |= {f"m/{mark}/{index}": "" for mark in marks for index in range(2)}
    for now[0] in (0.0, 1000.0):
        one._hear()
        one.check()


def test_errors_that_only_say_that_another_one_is_gone_say_so(board: dict[str, str]) -> None:
    one = Meeting("fit", "m")
    with pytest.raises(ProcessFailed, match=r"fit ended: another process is gone .*Gloo"):
        one.fail(ValueError("Gloo"), "ValueError: Gloo AllGather failed: Connection closed")
    other = Meeting("fit", "n")
    other.fail(KeyError("a"), "KeyError: 'a'")
    assert board["n/failed"] == "process 0 failed: KeyError: 'a'"
    third = Meeting("fit", "o")
    third.fail(ProcessFailed("theirs"), "ProcessFailed: theirs")
    assert "o/failed" not in board

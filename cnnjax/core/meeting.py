"""What several processes do at one time: who is alive, who failed, and when all stop."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import suppress

import jax

from cnnjax.core.coordination import (
    AGAIN,
    LEFT,
    ProcessFailed,
    end_process,
    give_up,
    heard,
    tell,
    wait_for,
)

# A process of which nothing is heard for so long is lost.
LOST_SECONDS = 60.0

# What another one may take to notice by itself that it cannot go on, before it is ended.
GRACE_SECONDS = 10.0

_PULSE_SECONDS = 0.5

# In what the collective operations of CPUs and GPUs say where the other side is gone.
_BROKEN = ("gloo", "nccl", "connection", "socket", "collective")


class Meeting:
    """What all processes do at one time, with a thread that listens to the others meanwhile.

    Args:
        what: they do, for messages.
        name: under which they speak of it, the same in all.
    """

    def __init__(self, what: str, name: str):
        self.what, self.name = what, name
        self.stop = StopVote(name)
        # Places to which all came, and questions that the first process answered.
        self.met, self.questions = itertools.count(), itertools.count()
        self._reason: str | None = None  # why it cannot go on
        self._pulses: dict[int, tuple[str, float]] = {}  # of each process, and since when
        self._over = threading.Event()
        self._listener = threading.Thread(target=self._listen, name="processes", daemon=True)

    def begin(self) -> None:
        """Listen from here on, and go on once all are there."""
        self._listener.start()
        self.wait_for_all("begun")

    def end(self) -> None:
        """Listen no longer."""
        self._over.set()
        self._listener.join()

    def check(self) -> None:
        """Whether it can go on.

        Raises:
            ProcessFailed: if another process failed or is lost.
        """
        if self._reason is not None:
            raise ProcessFailed(f"{self.what} ended: {self._reason}")

    def stops_after(self, done: int) -> bool:
        """Whether all processes stop here, since one of them was asked to.

        Args:
            done: steps so far; every process calls this with the same growing numbers, but not at
                the same time.

        Raises:
            ProcessFailed: if another process failed or is lost.
        """
        while (stops := self.stop.after(done)) is None:
            self.check()
        self.check()
        return stops

    def wait_for_all(self, mark: str) -> None:
        """Go on once all processes have come to a place.

        Raises:
            ProcessFailed: if another process failed or is lost meanwhile.
        """
        tell(f"{self.name}/{mark}/{jax.process_index()}", "")
        for other in range(jax.process_count()):
            wait_for(f"{self.name}/{mark}/{other}", self.check)

    def fail(self, error: BaseException, text: str) -> None:
        """Tell the others of an error, unless it is theirs or of all.

        Args:
            error: that ends this process' part.
            text: it, in a sentence.

        Raises:
            ProcessFailed: in its place, where it only says that another process is gone.
        """
        if isinstance(error, KeyboardInterrupt) and type(error) is not KeyboardInterrupt:
            self.wait_for_all("done")  # all stopped together, and the first one may still save
            return
        if isinstance(error, ProcessFailed):
            return
        if isinstance(error, Exception) and any(word in text.lower() for word in _BROKEN):
            self._hear()
            if self._reason is None:
                give_up()
                self._reason = f"another process is gone ({text}): {AGAIN}"
            self.check()
        with suppress(jax.errors.JaxRuntimeError):  # another one was faster
            tell(f"{self.name}/failed", f"process {jax.process_index()} failed: {text}")

    def _listen(self) -> None:
        """Until the meeting is over: show that this process lives, and hear of the others."""
        for number in itertools.count():
            try:
                tell(f"{self.name}/pulse/{jax.process_index()}", str(number), anew=True)
                self._hear()
            except jax.errors.JaxRuntimeError:  # they all speak through the first one
                self._reason = self._reason or f"process 0 is gone: {AGAIN}"
            if self._reason is not None and not self._over.wait(GRACE_SECONDS):
                end_process(f"{self.what} ended: {self._reason}")
            if self._over.wait(_PULSE_SECONDS):
                return

    def _hear(self) -> None:
        said = heard(self.name)
        self.stop.hear(said)
        if self._reason is None:
            self._reason = said.get("failed") or self._lost(said)

    def _lost(self, said: dict[str, str]) -> str | None:
        """Which process is over, or was silent for too long since it had begun."""
        now, left = time.monotonic(), heard(LEFT)
        for other in range(jax.process_count()):
            if f"done/{other}" in said:
                continue
            if str(other) in left:
                return f"process {other} is over: all have to run the same script to its end"
            if f"begun/{other}" not in said:
                continue  # it may load for long; whether it lives JAX itself asks
            pulse = said.get(f"pulse/{other}", "")
            if self._pulses.get(other, ("none", now))[0] != pulse:
                self._pulses[other] = pulse, now
            silent = now - self._pulses[other][1]
            if silent > LOST_SECONDS:
                give_up()
                return f"process {other} was silent for {LOST_SECONDS:.0f} seconds: {AGAIN}"
        return None


class StopVote:
    """After which step all processes stop, once one of them was asked to.

    Each says how far it is, and none goes on before all have: they stop at the next place after
    the furthest of these. The listeners say it, so that no process waits for a step of another.

    Args:
        name: of the meeting.
    """

    def __init__(self, name: str):
        self.asked = False  # whether this process was: set from a signal
        self._name = name
        self._done = 0
        self._said = False  # how far this process is
        self._furthest: int | None = None
        self._changed = threading.Condition()

    def after(self, done: int) -> bool | None:
        """Whether to stop after so many steps; None, after a moment, while that is not known."""
        with self._changed:
            if self._said and self._furthest is None:
                self._changed.wait(_PULSE_SECONDS)
                if self._furthest is None:
                    return None
            self._done = done
            return self._furthest is not None and done > self._furthest

    def hear(self, said: dict[str, str]) -> None:
        """Take in what was said so far, and answer it."""
        if self.asked and "stop" not in said:
            tell(f"{self._name}/stop", "", anew=True)
        with self._changed:
            if "stop" in said and not self._said:
                self._said = True
                tell(f"{self._name}/steps/{jax.process_index()}", str(self._done))
            steps = [int(text) for key, text in said.items() if key.startswith("steps/")]
            if len(steps) == jax.process_count():
                self._furthest = max(steps)
                self._changed.notify_all()

"""The rank's end of the channel: what a rank tells its parent."""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

from harness.diagnosis import snapshot
from harness.model.outcome import Passed, Problem, Raised, Spoken, spoken_to_data
from harness.ranks import child_listener
from harness.ranks.channel import FrameWriter
from harness.ranks.child_problems import problem_of


class RankPipe:
    """The rank's end of the channel; the `pipe` that the `_run` and `run_test` hooks are given."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._writer = FrameWriter(connection.fileno())
        self.outcome: Spoken | None = None
        self._pid = os.getpid()

    def hello(self) -> None:
        """The rank is up: its class is found and the body is about to start."""
        snapshot.begin()
        child_listener.start(self._connection.fileno(), self._send)
        self._send({"kind": "hello"})

    def report(self, outcome: Spoken) -> None:
        """Say what became of the body. Only the first report counts."""
        if self.outcome is None:
            self.outcome = outcome
            taken = _snapshot(issued_where=not isinstance(outcome, Passed))
            self._send({"kind": "outcome", "outcome": spoken_to_data(outcome), "snapshot": taken})

    def leaving(self, request: SystemExit) -> None:
        """Somebody called sys.exit(); say where, in case nothing else was reported."""
        if self.outcome is None:
            place = problem_of((SystemExit, request, request.__traceback__)).where
            self._send({"kind": "leaving", "where": asdict(place) if place else None})

    def goodbye(self, imported: tuple[str, ...]) -> None:
        """The process group is down and exit handlers have run; the process is about to exit."""
        self._send({"kind": "goodbye", "imported": imported})

    def send(self, text: object) -> None:
        """For tests written against PyTorch's harness, which send a traceback as text."""
        message = str(text)
        self.report(Raised((Problem("Exception", message, message, is_assertion=False),)))

    def close(self) -> None:
        """PyTorch's harness closes the pipe after the body; here it stays open until the exit."""

    def _send(self, message: dict[str, Any]) -> None:
        if os.getpid() != self._pid:
            return  # a fork that the test has made is not the rank, though it runs on as if it were
        with contextlib.suppress(OSError):  # the parent has gone, and so will this process
            self._writer.send(message)


def _snapshot(issued_where: bool) -> dict[str, Any] | None:
    """What this rank has called so far: its peers may be waiting for what it never called."""
    try:
        return snapshot.take(issued_where).to_data()
    except Exception:  # a test may have replaced anything we look at
        return None

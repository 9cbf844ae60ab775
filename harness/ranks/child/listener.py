"""Answer the parent's requests in a thread, while the main thread runs the test.

The thread can answer as long as the main thread releases the GIL now and then, as all waits of
torch do. For a rank that does not, the parent uses faulthandler's signal.
"""

from __future__ import annotations

import contextlib
import faulthandler
import select
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from harness.diagnosis import snapshot
from harness.model.evidence import Snapshot
from harness.model.own_thread import OwnThread
from harness.model.timeline import CollectiveSpan
from harness.ranks.channel import FrameReader
from harness.ranks.descriptors import CHANNEL_CHECK_MS
from harness.ranks.handle import STACKS_SIGNAL
from harness.ranks.messages import (
    ConnectingAnswer,
    ConnectingRequest,
    SnapshotAnswer,
    SnapshotRequest,
    ToRank,
    WhereAnswer,
    WhereRequest,
    to_rank,
)

if TYPE_CHECKING:
    from harness.ranks.child.rank import Rank

_T = TypeVar("_T")


def register_stacks_signal(path: str) -> None:
    """Have faulthandler write all threads' stacks to the pipe at `path` when the signal comes."""
    # Ignored first, so that the signal never kills the rank while faulthandler is not registered.
    signal.signal(STACKS_SIGNAL, signal.SIG_IGN)
    pipe = open(path, "wb", buffering=0)  # noqa: SIM115 (faulthandler keeps it open)
    faulthandler.register(STACKS_SIGNAL, file=pipe, all_threads=True, chain=False)


def start(rank: Rank) -> None:
    """Start answering the parent's requests; put its other messages into `rank.pipe.orders`."""
    OwnThread(_listen, (rank,), "harness-listener").start()


def _listen(rank: Rank) -> None:
    pipe = rank.pipe
    reader = FrameReader(pipe.fd)
    poller = select.poll()
    poller.register(pipe.fd, select.POLLIN)
    try:
        while not reader.closed:
            # poll() does not return when another thread closes the descriptor, so it has a limit.
            poller.poll(CHANNEL_CHECK_MS)
            pipe.end_if_cut_off()
            for message in reader.read():
                _handle_message(to_rank(message), rank)
    except ValueError as error:
        print(f"harness: cannot read what the parent has sent: {error}", file=sys.stderr)
    pipe.orders.put(None)


def _handle_message(message: ToRank, rank: Rank) -> None:
    match message:
        case SnapshotRequest():
            rank.pipe.send(_snapshot(message, rank))
        case WhereRequest():
            rank.pipe.send(_where(rank))
        case ConnectingRequest(number):
            rank.pipe.send(ConnectingAnswer(number, attempt(snapshot.is_creating_a_group, False)))
        case _:
            rank.pipe.orders.put(message)


def _snapshot(request: SnapshotRequest, rank: Rank) -> SnapshotAnswer:
    taken = attempt(lambda: rank.take_snapshot(with_frames=request.full), None)
    return SnapshotAnswer(request.round, taken, spans(rank.since_ns) if request.spans else ())


def _where(rank: Rank) -> WhereAnswer:
    taken = attempt(lambda: snapshot.take_brief(rank.since_ns), Snapshot())
    return WhereAnswer(rank.progress.phase, rank.progress.since_s, taken)


def spans(since_ns: int, *, all_completed: bool = False) -> tuple[CollectiveSpan, ...]:
    """Return the collectives of this process over time; see `snapshot.spans`."""
    return attempt(lambda: snapshot.spans(since_ns, all_completed=all_completed), ())


def attempt(take: Callable[[], _T], otherwise: _T) -> _T:
    """Return the result of `take`, or `otherwise` if it fails.

    A test may have replaced anything that `take` looks at, and stderr as well.
    """
    try:
        return take()
    except Exception as error:
        with contextlib.suppress(Exception):
            print(f"harness: no snapshot: {error!r}", file=sys.stderr)
        return otherwise

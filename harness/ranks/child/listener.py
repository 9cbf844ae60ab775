"""Answer the parent's requests in a thread, while the main thread runs the test.

The thread can answer as long as the main thread releases the GIL now and then, as all waits of
torch do. For a rank that does not, the parent uses faulthandler's signal.
"""

from __future__ import annotations

import faulthandler
import queue
import select
import signal
import sys
from collections.abc import Callable
from typing import Any

from harness.diagnosis import snapshot
from harness.model.evidence import Snapshot
from harness.model.own_thread import OwnThread
from harness.model.timeline import CollectiveSpan
from harness.ranks.channel import FrameReader
from harness.ranks.descriptors import LOOK_MS
from harness.ranks.handle import STACKS_SIGNAL
from harness.ranks.messages import (
    ConnectingAnswer,
    ConnectingRequest,
    FromRank,
    SnapshotAnswer,
    SnapshotRequest,
    ToRank,
    WhereAnswer,
    WhereRequest,
    to_rank,
)
from harness.ranks.progress import Progress


def register_stacks_signal(path: str) -> None:
    """Have faulthandler write all threads' stacks to the pipe at `path` when the signal comes."""
    # Ignored first, so that the signal never kills the rank while faulthandler is not registered.
    signal.signal(STACKS_SIGNAL, signal.SIG_IGN)
    pipe = open(path, "wb", buffering=0)  # noqa: SIM115 (open as long as the process lives)
    _pipes.append(pipe)
    faulthandler.register(STACKS_SIGNAL, file=pipe, all_threads=True, chain=False)


_pipes: list[Any] = []


#: Messages of the parent for the main thread; None once the channel is closed.
Orders = queue.SimpleQueue[ToRank | None]


def start(
    fd: int,
    send: Callable[[FromRank], None],
    progress: Callable[[], Progress],
    look: Callable[[], None],
) -> Orders:
    """Start answering the parent's questions, which come from `fd`, with `send`.

    Args:
        fd, send: the channel.
        progress: how far the present test has come.
        look: called every LOOK_MS, to check whether a test has closed the channel.

    Returns:
        the queue of all other messages of the parent.
    """
    orders: Orders = queue.SimpleQueue()
    arguments = (fd, send, orders, progress, look)
    thread = OwnThread(_listen, arguments, "harness-listener")
    thread.start()
    return orders


def _listen(
    fd: int,
    send: Callable[[FromRank], None],
    orders: Orders,
    progress: Callable[[], Progress],
    look: Callable[[], None],
) -> None:
    reader = FrameReader(fd)
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    try:
        while not reader.closed:
            # poll() does not return when another thread closes the descriptor, so it has a limit.
            poller.poll(LOOK_MS)
            look()
            for message in reader.read():
                _handle_message(to_rank(message), send, orders, progress)
    except ValueError as error:
        print(f"harness: cannot read what the parent has sent: {error}", file=sys.stderr)
    orders.put(None)


def _handle_message(
    message: ToRank,
    send: Callable[[FromRank], None],
    orders: Orders,
    progress: Callable[[], Progress],
) -> None:
    match message:
        case SnapshotRequest():
            send(_snapshot(message))
        case WhereRequest():
            send(_where(progress()))
        case ConnectingRequest(number):
            send(ConnectingAnswer(number, _is_connecting()))
        case _:
            orders.put(message)


def _snapshot(request: SnapshotRequest) -> SnapshotAnswer:
    try:
        taken = snapshot.take(request.full)
    except Exception as error:  # a test may have replaced anything we look at
        print(f"harness: no snapshot: {error!r}", file=sys.stderr)
        taken = None
    return SnapshotAnswer(request.round, taken, spans() if request.spans else ())


def _is_connecting() -> bool:
    try:
        return snapshot.is_creating_a_group()
    except Exception:  # a test may have replaced anything we look at
        return False


def _where(progress: Progress) -> WhereAnswer:
    try:
        taken = snapshot.take_brief()
    except Exception:  # a test may have replaced anything we look at
        taken = Snapshot()
    return WhereAnswer(progress.phase, progress.since_s, taken)


def spans(settled: bool = False) -> tuple[CollectiveSpan, ...]:
    """Return the collectives of this process over time; see `snapshot.spans`."""
    try:
        return tuple(snapshot.spans(settled))
    except Exception:  # a test may have replaced anything we look at
        return ()

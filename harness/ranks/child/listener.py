"""The rank's ear: a thread that answers the parent while the main thread runs the test.

It can answer as long as the main thread lets go of the GIL now and then, as it does in every wait
of torch's. For a rank that does not, the parent has faulthandler's signal.
"""

from __future__ import annotations

import faulthandler
import queue
import select
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from harness.diagnosis import snapshot
from harness.model.evidence import Snapshot
from harness.ranks.channel import FrameReader, Message
from harness.ranks.handle import STACKS_SIGNAL
from harness.ranks.progress import Progress


def register_stacks_signal(path: str) -> None:
    """Have faulthandler write all threads' stacks to the pipe at `path` when the signal comes."""
    # So that the signal never does harm, before and after faulthandler attends to it.
    signal.signal(STACKS_SIGNAL, signal.SIG_IGN)
    pipe = open(path, "wb", buffering=0)  # noqa: SIM115 (open as long as the process lives)
    _pipes.append(pipe)
    faulthandler.register(STACKS_SIGNAL, file=pipe, all_threads=True, chain=False)


_pipes: list[Any] = []

#: How soon a process notices that a test has closed its channel and goes on.
LOOK_MS = 500


#: What the parent says that is for the main thread; None once it says no more.
Orders = queue.SimpleQueue[Message | None]


def start(
    fd: int,
    send: Callable[[Message], None],
    progress: Callable[[], Progress],
    look: Callable[[], None],
) -> Orders:
    """Start answering the parent's questions, which come from `fd`, with `send`.

    Args:
        fd, send: the channel.
        progress: how far the present test has come.
        look: called now and then, to see whether a test has closed the channel.

    Returns:
        where everything else that the parent says arrives.
    """
    orders: Orders = queue.SimpleQueue()
    arguments = (fd, send, orders, progress, look)
    thread = threading.Thread(target=_listen, args=arguments, name=snapshot.LISTENER, daemon=True)
    thread.start()
    return orders


def _listen(
    fd: int,
    send: Callable[[Message], None],
    orders: Orders,
    progress: Callable[[], Progress],
    look: Callable[[], None],
) -> None:
    reader = FrameReader(fd)
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    while not reader.closed:
        # The kernel says nothing of a descriptor that is closed while somebody waits for it.
        poller.poll(LOOK_MS)
        look()
        for message in reader.read():
            if message["kind"] == "snapshot":
                send(_answer(message))
            elif message["kind"] == "where":
                send(_where(progress()))
            elif message["kind"] == "connecting":
                send({**message, "value": _is_connecting()})
            else:
                orders.put(message)
    orders.put(None)


def _answer(question: Message) -> Message:
    try:
        taken = snapshot.take(question["full"]).to_data()
    except Exception as error:  # a test may have replaced anything we look at
        print(f"harness: no snapshot: {error!r}", file=sys.stderr)
        taken = None
    answer = {"kind": "snapshot", "round": question["round"], "snapshot": taken}
    return {**answer, "spans": spans()} if question.get("spans") else answer


def _is_connecting() -> bool:
    try:
        return snapshot.brings_up_a_group()
    except Exception:  # a test may have replaced anything we look at
        return False


def _where(progress: Progress) -> Message:
    try:
        taken = snapshot.take_lightly()
    except Exception:  # a test may have replaced anything we look at
        taken = Snapshot()
    return {
        "kind": "where",
        "phase": progress.phase,
        "since_s": progress.since_s,
        "snapshot": taken.to_data(),
    }


def spans(settled: bool = False) -> list[dict[str, Any]]:
    """The collectives of this process over time, as data; see `snapshot.spans`."""
    try:
        return [asdict(span) for span in snapshot.spans(settled)]
    except Exception:  # a test may have replaced anything we look at
        return []

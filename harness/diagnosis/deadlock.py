"""Decide from snapshots of the ranks whether a world is deadlocked. Pure functions.

A world is stuck if every rank that still runs is in a call that waits for other ranks, and none of
these calls can return: a rank that it waits for has finished, or waits in another call. If a rank
may be doing anything else (computing, sleeping, waiting with a timeout of its own), the world is
not stuck. A slow but correct test must never be reported, so in doubt the world is not stuck.

`ranks/watch/deadlock_watch.py` takes the snapshots, and reports a deadlock only after two of them,
some time apart, show a stuck world that has not moved.
"""

from __future__ import annotations

from harness.diagnosis.collectives import Snapshots, members
from harness.model.evidence import Collective, Snapshot, differ

# A waiting rank uses almost no CPU: gloo's event loop and the snapshots themselves stay far below
# this share of one core. A rank that spins in Python, or computes in C++, uses a whole core.
_IDLE_SHARE = 0.25


def is_stuck(living: Snapshots, finished: Snapshots, size: int, remaining_s: float) -> bool:
    """Whether no rank that still runs can make progress.

    Args:
        living: snapshots of all ranks whose body still runs.
        finished: snapshots of the ranks whose body has ended, taken at its end; empty snapshots
            for ranks that sent none.
        size: the world size.
        remaining_s: seconds until the test times out; a call with an earlier timeout of its own is
            not stuck.
    """
    if not living or len(living) + len(finished) < size:
        return False  # a rank is still starting, or did not answer: it may do anything
    return not any(_may_go_on(rank, living, finished, size, remaining_s) for rank in living)


def has_not_moved(before: Snapshots, after: Snapshots, interval_s: float) -> bool:
    """Whether all ranks are at the same place in both, and used almost no CPU in between."""
    return before.keys() == after.keys() and all(
        _position(before[rank]) == _position(after[rank])
        and after[rank].cpu_s - before[rank].cpu_s < _IDLE_SHARE * interval_s
        for rank in after
    )


def _position(snapshot: Snapshot) -> object:
    main = snapshot.threads[0].frames if snapshot.threads else ()
    return main, snapshot.waiting, [(c.group, c.seq, c.op) for c in snapshot.pending]


def _may_go_on(
    rank: int, living: Snapshots, finished: Snapshots, size: int, remaining_s: float
) -> bool:
    snapshot = living[rank]
    waiting = snapshot.waiting
    # A runnable rank may be about to return from its call. If the test has a second thread, that
    # thread may be about to make the call that the ranks wait for.
    if waiting is None or snapshot.is_runnable or len(snapshot.threads) != 1:
        return True
    if waiting.kind == "meeting":
        # If all ranks are in a meeting, the parent has completed it and its answers are in flight.
        # If a rank has ended, the parent has already sent an error to the others.
        return len(living) == size and all(_is_in_meeting(other) for other in living.values())
    if waiting.kind == "collective":
        pending = snapshot.pending
        return not pending or any(
            call.timeout_s - call.waited_s < remaining_s or _may_complete(call, living, finished)
            for call in pending
        )
    if waiting.kind == "rendezvous":
        gives_up = waiting.timeout_s is not None and waiting.timeout_s < remaining_s
        needed = waiting.peers or range(size)
        if waiting.call == "init_process_group" and len(needed) != size:
            return True  # a group that the test creates itself, with rank numbers of its own
        return gives_up or all(_is_in_rendezvous(living.get(peer)) for peer in needed)
    return _message_may_come(rank, living, remaining_s)


def _may_complete(call: Collective, living: Snapshots, finished: Snapshots) -> bool:
    """Whether all members of the group have called this collective, or may still call it.

    All living ranks wait in a call, so none of them can call another collective: it is enough to
    ask whether they have called this one.
    """
    everybody = {**living, **finished}
    for member in members(call.group, everybody):
        snapshot = everybody.get(member)
        if snapshot is None:
            return True  # without a snapshot, assume that it may call
        if snapshot.last_seq(call.group) < call.seq:
            return False
        theirs = [c for c in snapshot.collectives if (c.group, c.seq) == (call.group, call.seq)]
        if theirs and differ([theirs[0], call]):
            return False
    return True


def _is_in_meeting(snapshot: Snapshot) -> bool:
    return snapshot.waiting is not None and snapshot.waiting.kind == "meeting"


def _is_in_rendezvous(snapshot: Snapshot | None) -> bool:
    waiting = snapshot.waiting if snapshot is not None else None
    return waiting is not None and waiting.kind == "rendezvous"


def _message_may_come(rank: int, living: Snapshots, remaining_s: float) -> bool:
    """Whether the message that a send or recv waits for may still arrive.

    A message that the peer posted earlier arrives at once. So a rank that still waits needs one
    that has not been posted. That can arrive only if the peer is in the opposite call now.
    """
    mine = living[rank].waiting
    assert mine is not None
    timeouts = [group.timeout_s for group in living[rank].groups.values()]
    if not timeouts or any(t is None or t < remaining_s for t in timeouts):
        return True  # the call may time out: a snapshot does not say which group it belongs to
    opposite = "recv" if mine.kind == "send" else "send"
    for peer in mine.peers or tuple(living):
        theirs = living[peer].waiting if peer in living else None
        if theirs is None and peer in living:
            return True
        if theirs is not None and theirs.kind == opposite and rank in (theirs.peers or (rank,)):
            return True
    return False

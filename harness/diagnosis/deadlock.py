"""Decide from snapshots of its ranks whether a world is deadlocked. Pure functions.

A world is stuck when every rank that still runs sits in a call that waits for other ranks, and no
such call can end: a rank that it waits for has finished, or sits in another call. A rank that may
be doing anything else (computing, sleeping, waiting with its own timeout) means that the world is
not stuck. A slow but correct test must never be reported, so in doubt the world is not stuck.
"""

from __future__ import annotations

from harness.diagnosis.collectives import Snapshots, members
from harness.model.evidence import Collective, Snapshot

# A waiting rank uses almost no CPU: gloo's event loop and the snapshots stay below this share.
_IDLE_SHARE = 0.25


def is_stuck(living: Snapshots, finished: Snapshots, size: int, remaining_s: float) -> bool:
    """Whether no rank that still runs can go on.

    Args:
        living: a snapshot of every rank whose body runs.
        finished: of the ranks whose body has ended, what they had called; a rank that said nothing
            may have an empty one.
        size: the world size.
        remaining_s: seconds until the test times out anyway; a call that gives up before then is
            not stuck.
    """
    if not living or len(living) + len(finished) < size:
        return False
    return not any(_may_go_on(rank, living, finished, size, remaining_s) for rank in living)


def has_not_moved(before: Snapshots, after: Snapshots, interval_s: float) -> bool:
    """Whether all ranks are where they were, and have used almost no CPU meanwhile."""
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
    # A runnable rank may be about to leave its call. Another thread of the test may be about to do
    # what the ranks wait for.
    if waiting is None or snapshot.is_runnable or len(snapshot.threads) != 1:
        return True
    if waiting.kind == "meeting":
        # With all ranks there, the meeting is over and the answers are in flight. If a rank has
        # ended, the parent has sent an error.
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
            return True  # a group that the test made itself, with other rank numbers
        return gives_up or all(_is_in_rendezvous(living.get(peer)) for peer in needed)
    return _message_may_come(rank, living, remaining_s)


def _may_complete(call: Collective, living: Snapshots, finished: Snapshots) -> bool:
    """Whether every member of the group has called, or may yet call, this very collective.

    Nobody who sits in another call gets there, so for the living it is whether they have.
    """
    everybody = {**living, **finished}
    for member in members(call.group, everybody):
        snapshot = everybody.get(member)
        if snapshot is None:
            return True  # without a snapshot, assume that it may call
        if snapshot.last_seq(call.group) < call.seq:
            return False
        theirs = [c for c in snapshot.collectives if (c.group, c.seq) == (call.group, call.seq)]
        if theirs and theirs[0].signature != call.signature:
            return False
    return True


def _is_in_meeting(snapshot: Snapshot) -> bool:
    return snapshot.waiting is not None and snapshot.waiting.kind == "meeting"


def _is_in_rendezvous(snapshot: Snapshot | None) -> bool:
    waiting = snapshot.waiting if snapshot is not None else None
    return waiting is not None and waiting.kind == "rendezvous"


def _message_may_come(rank: int, living: Snapshots, remaining_s: float) -> bool:
    """Whether the message of a send or recv may still arrive.

    A message that the peer has posted before arrives at once. So a rank that still waits needs one
    that is not posted yet; it arrives only if the peer is in the opposite call now.
    """
    mine = living[rank].waiting
    assert mine is not None
    timeouts = [group.timeout_s for group in living[rank].groups.values()]
    if not timeouts or any(t is None or t < remaining_s for t in timeouts):
        return True  # it may time out: the group of the message is unknown
    opposite = "recv" if mine.kind == "send" else "send"
    for peer in mine.peers or tuple(living):
        theirs = living[peer].waiting if peer in living else None
        if theirs is None and peer in living:
            return True
        if theirs is not None and theirs.kind == opposite and rank in (theirs.peers or (rank,)):
            return True
    return False

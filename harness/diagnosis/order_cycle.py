"""Find collectives of several groups that would deadlock if every call blocked.

As lockdep does for locks, it does not need a deadlock to happen: the ranks' programs are run again
with blocking collectives. A collective ends once each member's next operation is that collective.
If none can end, each waiting rank waits for a rank that waits elsewhere; following these leads into
a cycle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: A collective: the name of its group, and its number in the group.
Node = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Wait:
    """A rank of a cycle.

    Attributes:
        rank: the rank.
        node: the collective that it would wait in.
        for_rank: a member of its group that would wait elsewhere: the next rank of the cycle.
    """

    rank: int
    node: Node
    for_rank: int


def find_cycle(
    programs: Mapping[int, Sequence[Sequence[Node]]], members: Mapping[str, Sequence[int]]
) -> tuple[Wait, ...]:
    """Return the waits of a cycle, in order; empty if there is none.

    Args:
        programs: by rank, for each of its threads, the collectives in the order of the calls.
        members: the ranks of each group. Every member must have every node of the group.
    """
    queues = {rank: [deque(thread) for thread in threads] for rank, threads in programs.items()}
    blocked = _run(queues, members)
    if not blocked:
        return ()
    return _cycle(blocked, members)


def _run(
    queues: dict[int, list[deque[Node]]], members: Mapping[str, Sequence[int]]
) -> dict[int, list[Node]]:
    """Run the programs; return what each rank waits in at the end."""
    arrived: dict[Node, int] = {}
    ready = deque(thread for threads in queues.values() for thread in threads)
    waiting: dict[Node, list[deque[Node]]] = {}
    while ready:
        thread = ready.popleft()
        if not thread:
            continue
        node = thread[0]
        waiting.setdefault(node, []).append(thread)
        arrived[node] = arrived.get(node, 0) + 1
        if arrived[node] == len(members[node[0]]):
            for other in waiting.pop(node):
                other.popleft()
                ready.append(other)
    heads = {rank: [thread[0] for thread in threads if thread] for rank, threads in queues.items()}
    return {rank: nodes for rank, nodes in heads.items() if nodes}


def _cycle(
    blocked: Mapping[int, Sequence[Node]], members: Mapping[str, Sequence[int]]
) -> tuple[Wait, ...]:
    rank = next(iter(blocked))
    path: list[Wait] = []
    seen: dict[int, int] = {}
    while rank not in seen:
        seen[rank] = len(path)
        node = blocked[rank][0]
        missing = (
            member
            for member in members[node[0]]
            if node not in blocked.get(member, ()) and member in blocked
        )
        following = next(missing, None)
        if following is None:
            return ()
        path.append(Wait(rank, node, following))
        rank = following
    return tuple(path[seen[rank] :])

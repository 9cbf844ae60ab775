"""What a rank was doing at one moment: its stacks, its collectives, the call that it waited in.

A rank sends a `Snapshot` of itself. `Evidence` adds what the parent found out from outside, for
ranks that could not send one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.model.outcome import Place

Stack = tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class ThreadStack:
    """Where one thread is.

    Attributes:
        name: the thread's name.
        frames: its frames, innermost first.
    """

    name: str
    frames: Stack


@dataclass(frozen=True, slots=True)
class Collective:
    """One entry of torch's flight recorder.

    Attributes:
        group: name of the process group, as torch numbers them.
        seq: the collective's number within its group, from 1.
        op: the operation, without the backend: `all_reduce`.
        backend: the backend's name: `gloo`.
        sizes: shape of each input tensor.
        dtypes: dtype of each input tensor, as torch spells it without `torch.`.
        pending: whether it has not completed on this rank.
        waited_s: seconds since the rank issued it.
        timeout_s: the backend's timeout for it, in seconds.
        frames: the Python frames that issued it, innermost first; empty in brief snapshots.
        detail: its reduction and root, as text; empty if unknown.
    """

    group: str
    seq: int
    op: str
    backend: str
    sizes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    pending: bool
    waited_s: float
    timeout_s: float
    frames: Stack = ()
    detail: str = ""

    @property
    def signature(self) -> tuple[Any, ...]:
        """Return what must be equal on all ranks of the group for the collective to work."""
        # For thread ranks, the ledger has compared the sizes already, when they made the call.
        fixed = self.op in _SAME_SIZES and self.backend != "threaded"
        return (self.op, self.sizes if fixed else (), self.dtypes)


def differ(calls: Iterable[Collective]) -> bool:
    """Return whether these calls of one collective cannot work together.

    Details count only where both are known: a rank that has ended its body no longer knows its own.
    """
    calls = list(calls)
    signatures = {call.signature for call in calls}
    return len(signatures) > 1 or len({call.detail for call in calls if call.detail}) > 1


# In other collectives, ranks may pass tensors of different shapes (all_to_all with splits) or none
# (scatter).
_SAME_SIZES = frozenset({"all_reduce", "broadcast", "reduce", "all_gather", "reduce_scatter"})


@dataclass(frozen=True, slots=True)
class Group:
    """A process group as one of its members knows it.

    Attributes:
        ranks: the global ranks of its members.
        description: the `group_desc` that torch or the user gave it.
        timeout_s: the default timeout of its operations; None if the backend does not say.
    """

    ranks: tuple[int, ...]
    description: str = ""
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """The call in which a rank's main thread waits for other ranks.

    Attributes:
        kind: "collective", "send", "recv", "rendezvous" (of a new process group), or "meeting" (an
            exchange through the parent, as in `assertRanksAgree`).
        call: name of the function of torch, or of the harness, that the user's code called.
        peers: the global ranks that it waits for. Empty means any rank for send and recv, and all
            ranks for a rendezvous.
        timeout_s: the timeout that was passed to the call; None if there was none.
    """

    kind: str
    call: str
    peers: tuple[int, ...] = ()
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A rank at one moment, as it sees itself.

    Attributes:
        threads: its Python threads, the main thread first, without the harness's own.
        collectives: its last collectives, in the order in which it issued them.
        groups: its process groups by name.
        waiting: the call that the main thread waits in; None if it does something else.
        cpu_s: CPU time of the whole process so far, in seconds.
        is_runnable: whether the main thread runs or waits for a processor, which can take long on
            a busy machine; False if the system does not say.
    """

    threads: tuple[ThreadStack, ...] = ()
    collectives: tuple[Collective, ...] = ()
    groups: Mapping[str, Group] = field(default_factory=dict)
    waiting: Waiting | None = None
    cpu_s: float = 0.0
    is_runnable: bool = False

    @property
    def pending(self) -> tuple[Collective, ...]:
        return tuple(c for c in self.collectives if c.pending)

    def last_seq(self, group: str) -> int:
        """Return the number of the last collective issued in a group; 0 if there was none."""
        return max((c.seq for c in self.collectives if c.group == group), default=0)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything known about what a rank was doing when its test ended.

    Attributes:
        snapshot: the rank's last snapshot; None if it never sent one.
        stacks: the stacks that faulthandler wrote, for a rank that sent no snapshot or crashed.
        state: the process state, as psutil names it: "running", "sleeping", "stopped", …
        native: the native frames that the main thread's innermost Python frame has called,
            innermost first; empty without py-spy.
        answered: whether the rank answered the last request; if not, its snapshot is older.
    """

    snapshot: Snapshot | None = None
    stacks: tuple[ThreadStack, ...] = ()
    state: str = ""
    native: tuple[str, ...] = ()
    answered: bool = True

    @property
    def threads(self) -> tuple[ThreadStack, ...]:
        """Return the rank's threads, the main thread first, from the best source available."""
        # An old snapshot shows where the rank was before it stopped answering. What faulthandler
        # has written since is better, if there is any.
        if self.snapshot is not None and (self.answered or not self.stacks):
            return self.snapshot.threads
        return self.stacks

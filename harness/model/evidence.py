"""What a rank was doing at one moment: stacks, collectives, the call that it waits in."""

from __future__ import annotations

from collections.abc import Mapping
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
        pending: not yet completed on this rank.
        waited_s: seconds since it was issued.
        timeout_s: how long the backend lets it wait before it raises.
        frames: the Python frames that issued it, innermost first; empty in summaries.
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

    @property
    def signature(self) -> tuple[Any, ...]:
        """Return what must be equal on every rank of the group for the collective to work."""
        # Groups of threads take what fits, and are told apart when they are called.
        fixed = self.op in _SAME_SIZES and self.backend != "threaded"
        return (self.op, self.sizes if fixed else (), self.dtypes)


# The others may bring tensors of different shapes (all_to_all with splits), or none (scatter).
_SAME_SIZES = frozenset({"all_reduce", "broadcast", "reduce", "all_gather", "reduce_scatter"})


@dataclass(frozen=True, slots=True)
class Group:
    """A process group as one of its members knows it.

    Attributes:
        ranks: its members, by their rank in the world.
        description: what torch or the user calls it.
        timeout_s: how long its operations wait by default; None if the backend does not say.
    """

    ranks: tuple[int, ...]
    description: str = ""
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """The call, on the main thread, in which a rank waits for other ranks.

    Attributes:
        kind: "collective", "send", "recv" or "rendezvous"; "meeting" for one of the harness's own.
        call: name of the function of torch, or of the harness, that the user's code called.
        peers: for send and recv, the other side by its rank in the world, empty for any; for a
            rendezvous, all who have to come, empty for the whole world.
        timeout_s: how long the call itself says that it waits; None if it does not say.
    """

    kind: str
    call: str
    peers: tuple[int, ...] = ()
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A rank at one moment, seen from inside.

    Attributes:
        threads: Python threads, the main thread first, the harness's own left out.
        collectives: the last ones recorded, in the order in which they were issued.
        groups: process groups by name.
        waiting: the call that the main thread waits in; None if it does something else.
        cpu_s: CPU time of the whole process so far, in seconds.
        is_runnable: whether the main thread has a processor or waits for one, as it may for long
            where many processes do; False where that cannot be told.
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
    """All that is known of what a rank was doing when its test ended.

    Attributes:
        snapshot: the rank's own account; None if it could not give one.
        stacks: its threads' stacks as faulthandler wrote them, for a rank that gave no account.
        state: the operating system's word for the process: "running", "sleeping", "stopped", …
        native: native frames inside the innermost Python frame of the main thread, innermost
            first; empty without py-spy.
        answered: whether the rank answered when it was asked last; if not, its snapshot is old.
    """

    snapshot: Snapshot | None = None
    stacks: tuple[ThreadStack, ...] = ()
    state: str = ""
    native: tuple[str, ...] = ()
    answered: bool = True

    @property
    def threads(self) -> tuple[ThreadStack, ...]:
        """Return the rank's threads, the main thread first, from the best source available."""
        if self.snapshot is not None and (self.answered or not self.stacks):
            return self.snapshot.threads
        return self.stacks

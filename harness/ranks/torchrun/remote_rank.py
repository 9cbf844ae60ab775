"""Rank 0's handle on a rank that another process has started."""

from __future__ import annotations

from dataclasses import replace

from msgspec.structs import replace as replaced

from harness.model.clock import Deadline, now
from harness.model.outcome import Ended, Lost
from harness.model.spec import LaunchSpec
from harness.model.surroundings import Surroundings
from harness.ranks.handle import RankHandle
from harness.ranks.messages import (
    FromRank,
    PhaseBegun,
    Report,
    SnapshotAnswer,
    ToRank,
    WhereAnswer,
)
from harness.ranks.outside_view import InspectionRequest
from harness.ranks.torchrun.messages import (
    CloseWorld,
    ForRank,
    InspectionAnswer,
    InspectionQuestion,
    RemoteTest,
    RunNextExample,
    RunNextTest,
    SignalRank,
    StartRank,
    frame_around,
)
from harness.ranks.torchrun.peer import Peer, gather
from harness.ranks.torchrun.process_changes import ProcessChanges
from harness.ranks.typed_message import frame

# How long an idle process may take to answer.
_ANSWER_S = 2.0
# The exit code of a process whose real one is unknown; the value that multiprocessing uses.
UNKNOWN_CODE = 255


class RemoteProcess:
    """The process object that tests see for a rank on another process."""

    def __init__(self, handle: RemoteRank) -> None:
        self._handle = handle

    @property
    def name(self) -> str:
        return f"rank {self._handle.rank}"

    @property
    def pid(self) -> int | None:
        return self._handle.pid

    @property
    def exitcode(self) -> int | None:
        return self._handle.exit_code

    def is_alive(self) -> bool:
        return self._handle.exit_code is None

    def kill(self) -> None:
        self._handle.signal_group(9)

    def terminate(self) -> None:
        self._handle.signal_group(15)


class RemoteRank(RankHandle):
    """One rank, started by a peer.

    Args:
        rank: its rank in the test's world.
        peer: the process that starts it.
        world: the number of the test's world.
    """

    def __init__(self, rank: int, peer: Peer, world: int) -> None:
        super().__init__(rank, RemoteProcess(self))
        self.host, self.local_rank = peer.member.host, peer.member.local_rank
        self.peer = peer
        self._world = world
        self._inbox = peer.open(world)

    def start_with(self, test: bytes) -> None:
        """Have the peer start the rank.

        Args:
            test: the test, as `frame_of` makes it.
        """
        self.asked_s = now()
        start = frame_around(test, StartRank, world=self._world, rank=self.rank)
        self.peer.link.send_frame(start)

    def run_next_test(self, test: bytes) -> None:
        """Have the idle rank run another test."""
        self._go_on(frame_around(test, RunNextTest, world=self._world))

    def run_next_example(self, order: bytes) -> None:
        """Send an order to a rank of a property test, which waits for one."""
        self._go_on(frame_around(order, RunNextExample, world=self._world))

    def _go_on(self, order: bytes) -> None:
        self.is_new = False
        self.asked_s = now()
        self.peer.link.send_frame(order)

    @property
    def pid(self) -> int | None:
        self.peer.pump()
        return self._inbox.pid

    @property
    def exit_code(self) -> int | None:
        self.peer.pump()
        is_unknown = self._inbox.why_lost or (self._inbox.code is None and self.peer.is_lost)
        return UNKNOWN_CODE if is_unknown else self._inbox.code

    @property
    def is_lost(self) -> bool:
        return self.exit_code is not None and self._inbox.code is None

    @property
    def outcome_if_lost(self) -> Lost | Ended:
        why = self._inbox.why_lost
        return Lost(why) if why else self.peer.outcome_if_lost

    @property
    def terminal_group(self) -> int:
        return 0

    @property
    def exit_fd(self) -> int:
        return self._inbox.fd

    @property
    def open_fds(self) -> list[int]:
        return [self._inbox.fd]

    def pass_on_output(self) -> None:
        """Do nothing: the agent shows the output on its own host."""

    def end_output(self) -> None:
        """Do nothing: the agent shows the output on its own host."""

    def messages(self) -> list[FromRank]:
        self.peer.pump()
        return [_on_our_clock(message, self.peer) for message in self._inbox.take()]

    @property
    def fault(self) -> str:
        return self._inbox.fault

    def order(self, frame: bytes) -> None:
        self.peer.link.send_frame(frame_around(frame, ForRank, world=self._world))

    def ask(self, message: ToRank) -> bool:
        self.order(frame(message))
        return not self.peer.is_lost

    def state(self) -> str:
        number = self.peer.ask(InspectionQuestion(self._world, InspectionRequest()))
        answers = gather({self.peer: number}, InspectionAnswer, Deadline.after(_ANSWER_S))
        return answers[self.peer].inspection.state if answers else ""

    def signal_group(self, number: int) -> None:
        self.peer.link.send(SignalRank(self._world, number))

    def close(self) -> None:
        self.peer.link.send(CloseWorld(self._world))
        self.peer.close(self._world)


def frame_of(spec: LaunchSpec, changes: ProcessChanges) -> bytes:
    """Return the frame of a test for other processes."""
    return frame(RemoteTest(replace(spec, surroundings=Surroundings({}, "", ())), changes))


def _on_our_clock(message: FromRank, peer: Peer) -> FromRank:
    """Return a message of a rank with its times converted to this host's clock."""
    ours = peer.on_our_clock
    if not peer.clock_ahead_s:  # as on one host
        return message
    match message:
        case PhaseBegun():
            return replaced(message, at_s=ours(message.at_s))
        case WhereAnswer():
            return replaced(message, since_s=ours(message.since_s))
        case Report() | SnapshotAnswer():
            spans = (
                replace(
                    span,
                    began_s=ours(span.began_s),
                    ended_s=None if span.ended_s is None else ours(span.ended_s),
                )
                for span in message.spans
            )
            return replaced(message, spans=tuple(spans))
        case _:
            return message

"""What torchrun's processes other than rank 0's run: an agent that starts one rank of every test.

The agent starts the rank on rank 0's request, forwards the messages between the two, and reports
the rank's exit code. The rank is a separate process, so the agent survives whatever a test does.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from dataclasses import replace
from types import FrameType
from typing import assert_never

from harness.model import settings
from harness.model.clock import NEVER, Deadline, now
from harness.model.spec import LaunchSpec
from harness.model.surroundings import Surroundings
from harness.model.topology import node_rank
from harness.model.torchrun_environ import TorchrunPlace
from harness.ranks import folders
from harness.ranks.descriptors import readable
from harness.ranks.handle import RankHandle
from harness.ranks.launch.environment import launch_environ, rank_threads
from harness.ranks.launch.launcher import launcher
from harness.ranks.torchrun.gathering import interface_of
from harness.ranks.torchrun.links import Link
from harness.ranks.torchrun.messages import (
    Answer,
    Answered,
    Asked,
    ClockAnswer,
    ClockQuestion,
    CloseWorld,
    Ending,
    ForRank,
    InspectionAnswer,
    InspectionQuestion,
    Leave,
    LeftoversAnswer,
    LeftoversQuestion,
    LogsAnswer,
    LogsQuestion,
    Preload,
    Question,
    RankExited,
    RankSent,
    RankStarted,
    RankUnreadable,
    RemoteTest,
    RunNextExample,
    RunNextTest,
    SignalRank,
    StartRank,
    ToAgent,
    ToWorld,
    to_agent,
)
from harness.ranks.torchrun.process_changes import changed_by
from harness.ranks.torchrun.world import stream_ends
from harness.ranks.typed_message import frame
from harness.ranks.world import TERM_GRACE_S, World

# After SIGTERM or SIGINT, how long to wait for rank 0 to send the exit code.
_LEAVING_S = 5.0
# The exit code of an agent that has lost rank 0.
_EXIT_LOST = 1


class _HostedWorld:
    """A world that has one of its ranks here.

    Attributes:
        number: rank 0's number of the world.
        rank: the rank.
        folder: its folder on this host.
        world: the world of that one rank.
        has_reported_exit: whether rank 0 knows how the rank has ended.
        reported_fault: what rank 0 knows of data of the rank that is no message.
    """

    def __init__(self, number: int, rank: int, folder: str) -> None:
        self.number = number
        self.rank = rank
        self.folder = folder
        self.world = World(folder)
        self.has_reported_exit = False
        self.reported_fault = ""

    @property
    def handle(self) -> RankHandle | None:
        return self.world.handles[0] if self.world.handles else None

    @property
    def fds(self) -> list[int]:
        handle = self.handle
        return [] if handle is None or self.has_reported_exit else handle.open_fds


# States of the agent, and the states of each world that it serves:
#
#   serving   `_turn` handles rank 0's messages and forwards those of ranks
#   ending    after SIGTERM or SIGINT: it sends Ending, ends its ranks, waits _LEAVING_S for Leave
#   done      Leave has set `_code`, rank 0's process has ended, or the time is over
#
#   absent -StartRank-> running -exit of the rank-> exited -CloseWorld-> absent
#             RunNextTest and RunNextExample give an idle rank its next test or example
#
# torchrun sends SIGTERM to all processes as soon as one has died. Without the state `ending`, rank
# 0 would take the end of each of these ranks for a crash of its own.
#
# Messages about an absent world are normal, since messages cross: questions get the answer None.


class Agent:
    """Runs ranks on request, as long as rank 0's process lives.

    Args:
        link: the connection to rank 0.
        place: this process's place in torchrun's world.
        base: its surroundings at the start of the run.
    """

    def __init__(self, link: Link, place: TorchrunPlace, base: Surroundings) -> None:
        self._link = link
        self._place = place
        self._base = base
        self._interface = None if place.is_on_one_host else interface_of(link.own_address)
        self._worlds: dict[int, _HostedWorld] = {}
        self._code: int | None = None
        self._ended_by = 0
        self._limit = NEVER

    def serve(self) -> int:
        """Handle rank 0's messages until it sends Leave or has ended; return the exit code."""
        wakeup_read, wakeup_write = os.pipe()
        os.set_blocking(wakeup_write, False)
        signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle_signal)
        try:
            while self._code is None and not self._link.closed and not self._limit.expired:
                self._turn(wakeup_read)
        finally:
            self._end_all()
            signal.set_wakeup_fd(-1)
            os.close(wakeup_read)
            os.close(wakeup_write)
        if self._code is None and not self._ended_by:
            print(
                f"rank {self._place.rank}: the connection to rank 0 is gone ({self._why_gone()}), "
                "so this rank has ended too",
                file=sys.stderr,
            )
        return _EXIT_LOST if self._code is None else self._code

    def _why_gone(self) -> str:
        if self._link.fault:
            return f"it sent something that this process cannot read: {self._link.fault}"
        return "no sign of life" if self._link.fell_silent else "its process has ended"

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        self._ended_by = self._ended_by or number

    def _turn(self, wakeup_read: int) -> None:
        fds = [
            wakeup_read,
            self._link.fd,
            *(fd for hosted in self._worlds.values() for fd in hosted.fds),
        ]
        ready = readable(fds, self._limit)
        if wakeup_read in ready:
            os.read(wakeup_read, 4096)
        if self._ended_by and self._limit is NEVER:
            # Sent before the ranks end, so that rank 0 does not take their ends for crashes.
            self._link.send(Ending(self._ended_by))
            self._limit = Deadline.after(_LEAVING_S)
            self._end_all()
        self._handle_messages()
        for hosted in list(self._worlds.values()):
            if not ready.isdisjoint(hosted.fds):
                self._forward(hosted)

    # From the rank to rank 0

    def _forward(self, hosted: _HostedWorld) -> None:
        handle = hosted.handle
        if handle is None or hosted.has_reported_exit:
            return
        handle.pass_on_output()
        code = handle.exit_code  # read before the messages, so that none is missed
        for message in handle.messages():
            self._link.send(RankSent(hosted.number, message))
        if handle.fault != hosted.reported_fault:
            hosted.reported_fault = handle.fault
            self._link.send(RankUnreadable(hosted.number, handle.fault))
        if code is not None:
            hosted.has_reported_exit = True
            why = "the fork server died, so its exit code is unknown"
            self._report_exit(hosted.number, code, why if handle.is_lost else "")

    def _report_exit(self, world: int, code: int | None, why: str) -> None:
        self._link.send(RankExited(world, None if why else code, why))

    # From rank 0

    def _handle_messages(self) -> None:
        for message in self._link.messages(to_agent):
            self._handle_message(message)
            if self._code is not None:
                return

    def _handle_message(self, message: ToAgent) -> None:
        match message:
            case StartRank():
                self._start(message)
            case Preload(modules):
                launcher().learn(modules)
            case Asked(number, question):
                self._link.send(Answered(number, self._answer(question)))
            case Leave(code):
                self._code = code
            case RunNextTest() | RunNextExample() | ForRank() | SignalRank() | CloseWorld():
                hosted = self._worlds.get(message.world)
                if hosted is not None:
                    self._handle_message_for(hosted, message)
            case _:
                assert_never(message)

    def _handle_message_for(self, hosted: _HostedWorld, message: ToWorld) -> None:
        match message:
            case RunNextTest(_, test):
                hosted.world.run(self._own_spec(test, hosted))
            case RunNextExample(_, order):
                hosted.world.resume(order)
            case ForRank(_, for_rank):
                if hosted.handle is not None:
                    hosted.handle.order(frame(for_rank))
            case SignalRank(_, signal_number):
                if hosted.handle is not None and hosted.handle.exit_code is None:
                    hosted.handle.signal_group(signal_number)
            case CloseWorld():
                del self._worlds[hosted.number]
                self._end(hosted)
            case _:
                assert_never(message)

    def _answer(self, question: Question) -> Answer | None:
        """Return the answer; None if the question is about a world that is closed."""
        if isinstance(question, ClockQuestion):
            return ClockAnswer(now())
        hosted = self._worlds.get(question.world)
        if hosted is None:
            return None
        match question:
            case InspectionQuestion(_, request):
                inspection = hosted.world.inspect({hosted.rank: request}).get(hosted.rank)
                return None if inspection is None else InspectionAnswer(inspection)
            case LogsQuestion(_, lines, max_bytes):
                if hosted.handle is not None:
                    hosted.handle.pass_on_output()
                logs = hosted.world.logs
                return LogsAnswer(stream_ends(logs, hosted.rank, lines, max_bytes))
            case LeftoversQuestion(_, grace_s):
                return LeftoversAnswer(tuple(hosted.world.end_leftovers(grace_s)))
            case _:
                assert_never(question)

    def _start(self, message: StartRank) -> None:
        number, test = message.world, message.message
        try:
            folder = str(folders.new_test_folder(test.spec.method))
            hosted = self._worlds[number] = _HostedWorld(number, message.rank, folder)
            spec = self._own_spec(test, hosted)
            launcher().need([spec.module])
            factory = launcher().factory(Deadline.after(settings.START_TIMEOUT_S.value()))
            hosted.world.begin(spec, factory, [hosted.rank])
        except Exception as error:
            traceback.print_exc()
            if number in self._worlds:
                self._worlds[number].has_reported_exit = True
            why = f"it could not be started: {type(error).__name__}: {error}"
            self._report_exit(number, None, why)
            return
        pid = hosted.world.handles[0].pid
        assert pid is not None, "a rank that has been started is a process"
        self._link.send(RankStarted(number, pid))

    def _own_spec(self, test: RemoteTest, hosted: _HostedWorld) -> LaunchSpec:
        """Return the spec of a test, adapted to this process."""
        own = changed_by(test.changes, self._base)
        temp = folders.temp_folder(hosted.folder)
        on_this_host = test.spec.world_size
        if test.spec.has_real_nodes:
            on_this_host = node_rank(hosted.rank, test.spec.node_sizes).local_world_size
        return replace(
            test.spec,
            surroundings=replace(own, environ=launch_environ(temp, own.environ, self._interface)),
            world_folder=hosted.folder,
            store_host=self._link.other_address,
            threads=rank_threads(on_this_host),
        )

    def _end_all(self) -> None:
        for hosted in self._worlds.values():
            self._end(hosted)
        self._worlds.clear()

    def _end(self, hosted: _HostedWorld) -> None:
        hosted.world.end(TERM_GRACE_S if hosted.world.living() else 0.0)
        hosted.world.end_leftovers()
        hosted.world.close()
        folders.remove(hosted.folder)

"""What torchrun's processes other than rank 0's run: an agent that starts one rank of every test.

The agent starts the rank on rank 0's request, forwards the messages between the two, and reports
the rank's exit code. The rank is a separate process, so the agent survives whatever a test does.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from types import FrameType
from typing import Any

import msgspec

from harness.model import settings
from harness.model.clock import NEVER, Deadline, now
from harness.model.spec import LaunchSpec
from harness.model.surroundings import Surroundings
from harness.model.topology import node_rank
from harness.model.torchrun_environ import TorchrunPlace
from harness.ranks import folders
from harness.ranks.channel import Message, encode
from harness.ranks.descriptors import readable
from harness.ranks.handle import RankHandle
from harness.ranks.launch.environment import launch_environ, rank_threads
from harness.ranks.launch.launcher import launcher
from harness.ranks.messages import NoMoreExamples, RunExample, to_rank
from harness.ranks.outside_view import InspectionRequest
from harness.ranks.torchrun.gathering import interface_of
from harness.ranks.torchrun.links import Link
from harness.ranks.torchrun.messages import FROM_RANK_0, fault_of
from harness.ranks.torchrun.process_changes import changed_by
from harness.ranks.torchrun.world import tails_of
from harness.ranks.world import TERM_GRACE_S, World

# After SIGTERM or SIGINT, how long to wait for rank 0 to send the exit code.
_LEAVING_S = 5.0
_CODE_OF_THE_LOST = 1


class _HostedWorld:
    """One world of which this process runs a rank."""

    def __init__(self, number: int, rank: int, folder: str) -> None:
        self.number = number
        self.rank = rank
        self.folder = folder
        self.world = World(folder)
        self.has_told_exit = False

    @property
    def handle(self) -> RankHandle | None:
        return self.world.handles[0] if self.world.handles else None

    @property
    def fds(self) -> list[int]:
        handle = self.handle
        return [] if handle is None or self.has_told_exit else handle.open_fds


# States of the agent, and the states of each world that it serves:
#
#   serving   `_turn` handles rank 0's messages and forwards those of ranks
#   ending    SIGTERM or SIGINT: it reports "ending", ends its ranks, waits _LEAVING_S for "leave"
#   done      "leave" has set `_code`, rank 0 has gone, or the limit is over
#
#   absent -"start"-> running -exit of the rank-> exited -"close"-> absent
#             "again" and "go_on" give an idle rank its next test or example
#
# Requests about an absent world are normal, since messages cross: questions get the answer {}.


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
        self._told_to_end = 0
        self._limit = NEVER

    def serve(self) -> int:
        """Handle rank 0's requests until it sends "leave" or has gone; return the exit code."""
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
        if self._code is None and not self._told_to_end:
            print(
                f"rank {self._place.rank}: the connection to rank 0 is gone ({self._why_gone()}), "
                "so this rank has ended too",
                file=sys.stderr,
            )
        return _CODE_OF_THE_LOST if self._code is None else self._code

    def _why_gone(self) -> str:
        if self._link.fault:
            return f"it sent what this process cannot read: {self._link.fault}"
        return "no sign of life" if self._link.fell_silent else "its process has ended"

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        self._told_to_end = self._told_to_end or number

    def _turn(self, wakeup_read: int) -> None:
        fds = [
            wakeup_read,
            self._link.fd,
            *(fd for hosted in self._worlds.values() for fd in hosted.fds),
        ]
        ready = readable(fds, self._limit)
        if wakeup_read in ready:
            os.read(wakeup_read, 4096)
        if self._told_to_end and self._limit is NEVER:
            # Sent before the ranks end, so that rank 0 does not take their ends for crashes.
            self._link.send({"kind": "ending", "signal": self._told_to_end})
            self._limit = Deadline.after(_LEAVING_S)
            self._end_all()
        self._handle_messages()
        for hosted in list(self._worlds.values()):
            if not ready.isdisjoint(hosted.fds):
                self._pass_on(hosted)

    # From the rank to rank 0

    def _pass_on(self, hosted: _HostedWorld) -> None:
        handle = hosted.handle
        if handle is None or hosted.has_told_exit:
            return
        handle.pass_on_output()
        code = handle.exit_code  # read before the messages, so that none is missed
        for message in handle.messages():
            self._link.send({"kind": "rank", "world": hosted.number, "message": message})
        if code is not None:
            hosted.has_told_exit = True
            why = "the fork server died, so its exit code is unknown"
            self._tell_exit(hosted.number, code, why if handle.is_lost else "")

    def _tell_exit(self, world: int, code: int | None, why: str) -> None:
        known = None if why else code
        self._link.send({"kind": "exited", "world": world, "code": known, "why": why})

    # From rank 0

    def _handle_messages(self) -> None:
        for message in self._link.messages():
            if fault := fault_of(message, FROM_RANK_0):
                self._link.fail(fault)
                return
            self._do(message)
            if self._code is not None:  # that was rank 0's goodbye
                return

    def _do(self, message: Message) -> None:
        kind = message["kind"]
        if kind == "start":
            self._start(message)
        elif kind == "learn":
            launcher().learn(message["modules"])
        elif kind == "leave":
            self._code = message["code"]
        elif kind == "clock":
            self._answer(message, now())
        else:
            hosted = self._worlds.get(message["world"])
            do: Callable[[Message, _HostedWorld], None] = getattr(self, f"_do_{kind}")
            if hosted is not None:
                do(message, hosted)
            elif "number" in message:
                self._answer(message, {})

    def _answer(self, question: Message, value: Any) -> None:
        self._link.send({"kind": "answer", "number": question["number"], "value": value})

    def _start(self, message: Message) -> None:
        number = message["world"]
        try:
            folder = str(folders.new_test_folder(message["message"]["method"]))
            hosted = self._worlds[number] = _HostedWorld(number, message["rank"], folder)
            spec = self._spec(message, hosted)
            if spec is None:
                return
            launcher().need([spec.module])
            factory = launcher().factory(Deadline.after(settings.START_TIMEOUT_S.value()))
            hosted.world.begin(spec, factory, [hosted.rank])
        except Exception as error:
            traceback.print_exc()
            if number in self._worlds:
                self._worlds[number].has_told_exit = True
            why = f"it could not be started: {type(error).__name__}: {error}"
            self._tell_exit(number, None, why)
            return
        handle = hosted.world.handles[0]
        self._link.send({"kind": "started", "world": number, "pid": handle.pid})

    def _spec(self, message: Message, hosted: _HostedWorld) -> LaunchSpec | None:
        """Return the spec in rank 0's message; None if it is invalid, which ends this process."""
        try:
            return self._own(message["message"], hosted)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            self._link.fail(f"a launch spec with a fault ({type(error).__name__}: {error})")
            return None

    def _own(self, data: Message, hosted: _HostedWorld) -> LaunchSpec:
        """Return the spec of a test, adapted to this process."""
        changes = data.pop("changes")
        own = changed_by(changes, self._base)
        temp = folders.temp_folder(hosted.folder)
        own = replace(own, environ=launch_environ(temp, own.environ, self._interface))
        spec = msgspec.convert({**data, "surroundings": asdict(own)}, LaunchSpec)
        on_this_host = spec.world_size
        if spec.has_real_nodes:
            on_this_host = node_rank(hosted.rank, spec.node_sizes).local_world_size
        return replace(
            spec,
            world_folder=hosted.folder,
            store_host=self._link.other_address,
            threads=rank_threads(on_this_host),
        )

    def _do_again(self, message: Message, hosted: _HostedWorld) -> None:
        spec = self._spec(message, hosted)
        if spec is not None:
            hosted.world.run(spec)

    def _do_go_on(self, message: Message, hosted: _HostedWorld) -> None:
        order = to_rank(message["message"])
        assert isinstance(order, RunExample | NoMoreExamples)
        hosted.world.resume(order)

    def _do_order(self, message: Message, hosted: _HostedWorld) -> None:
        if hosted.handle is not None:
            hosted.handle.order(encode(message["message"]))

    def _do_signal(self, message: Message, hosted: _HostedWorld) -> None:
        if hosted.handle is not None and hosted.handle.exit_code is None:
            hosted.handle.signal_group(message["signal"])

    def _do_look(self, message: Message, hosted: _HostedWorld) -> None:
        request = InspectionRequest(stacks=message["stacks"], native=message["native"])
        inspection = hosted.world.inspect({hosted.rank: request}).get(hosted.rank)
        self._answer(message, asdict(inspection) if inspection is not None else {})

    def _do_logs(self, message: Message, hosted: _HostedWorld) -> None:
        logs = hosted.world.logs
        if hosted.handle is not None:
            hosted.handle.pass_on_output()
        self._answer(message, tails_of(logs, hosted.rank, message["lines"], message["bytes"]))

    def _do_leftovers(self, message: Message, hosted: _HostedWorld) -> None:
        found = hosted.world.end_leftovers(message["grace_s"])
        left = [{"pid": f.pid, "command": f.command, "rank": f.rank} for f in found]
        self._answer(message, left)

    def _do_close(self, message: Message, hosted: _HostedWorld) -> None:
        del self._worlds[hosted.number]
        self._end(hosted)

    def _end_all(self) -> None:
        for hosted in self._worlds.values():
            self._end(hosted)
        self._worlds.clear()

    def _end(self, hosted: _HostedWorld) -> None:
        hosted.world.end(TERM_GRACE_S if hosted.world.living() else 0.0)
        hosted.world.end_leftovers()
        hosted.world.close()
        folders.remove(hosted.folder)

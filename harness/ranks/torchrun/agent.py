"""What a process of a given world does that is not rank 0's: it keeps one rank of every test.

It starts the rank when rank 0 says so, passes on what the two have to say to each other, and knows
how the rank ended. A test can do to its rank what it likes: this process goes on.
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
from harness.model.topology import seat_of
from harness.model.torchrun_environ import GivenPlace
from harness.ranks import folders
from harness.ranks.channel import Message, encode
from harness.ranks.descriptors import readable
from harness.ranks.handle import RankHandle
from harness.ranks.launch.environment import launch_environ, rank_threads
from harness.ranks.launch.launcher import launcher
from harness.ranks.messages import NoMoreExamples, RunExample, to_rank
from harness.ranks.outside_view import Wish
from harness.ranks.torchrun.gathering import interface_of
from harness.ranks.torchrun.links import Link
from harness.ranks.torchrun.messages import FROM_RANK_0, fault_of
from harness.ranks.torchrun.process_changes import Surroundings
from harness.ranks.torchrun.world import tails_of
from harness.ranks.world import TERM_GRACE_S, World

# After it has been told to end, how long rank 0 may take to say with which code.
_LEAVING_S = 5.0
_CODE_OF_THE_LOST = 1


class _Kept:
    """One world of which this process keeps a rank."""

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


class Keeper:
    """Keeps ranks for as long as rank 0 lives.

    Args:
        link: the connection to rank 0.
        place: where this process is.
        base: its surroundings at the start of the run.
    """

    def __init__(self, link: Link, place: GivenPlace, base: Surroundings) -> None:
        self._link = link
        self._place = place
        self._base = base
        self._interface = None if place.is_on_one_host else interface_of(link.own_address)
        self._worlds: dict[int, _Kept] = {}
        self._code: int | None = None
        self._told_to_end = 0
        self._limit = NEVER

    def serve(self) -> int:
        """Do what rank 0 says until it says goodbye, or has gone; returns the exit code."""
        bell, ring = os.pipe()
        os.set_blocking(ring, False)
        signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._heard)
        try:
            while self._code is None and not self._link.closed and not self._limit.expired:
                self._turn(bell)
        finally:
            self._end_all()
            signal.set_wakeup_fd(-1)
            os.close(bell)
            os.close(ring)
        if self._code is None and not self._told_to_end:
            print(
                f"rank {self._place.rank}: the connection to rank 0 of the given world is gone "
                f"({self._why_gone()}): this rank has ended too",
                file=sys.stderr,
            )
        return _CODE_OF_THE_LOST if self._code is None else self._code

    def _why_gone(self) -> str:
        if self._link.fault:
            return f"it sent what this process cannot read: {self._link.fault}"
        return "no sign of life" if self._link.fell_silent else "its process has ended"

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self._told_to_end = self._told_to_end or number

    def _turn(self, bell: int) -> None:
        fds = [bell, self._link.fd, *(fd for kept in self._worlds.values() for fd in kept.fds)]
        ready = readable(fds, self._limit)
        if bell in ready:
            os.read(bell, 4096)
        if self._told_to_end and self._limit is NEVER:
            # Before the ranks, so that their ends are known to be its doing.
            self._link.send({"kind": "ending", "signal": self._told_to_end})
            self._limit = Deadline.after(_LEAVING_S)
            self._end_all()
        self._hear_rank_0()
        for kept in list(self._worlds.values()):
            if not ready.isdisjoint(kept.fds):
                self._pass_on(kept)

    # From the rank to rank 0

    def _pass_on(self, kept: _Kept) -> None:
        handle = kept.handle
        if handle is None or kept.has_told_exit:
            return
        handle.pass_on_output()
        code = handle.exit_code  # looked at first: what it said last is read after that
        for message in handle.messages():
            self._link.send({"kind": "rank", "world": kept.number, "message": message})
        if code is not None:
            kept.has_told_exit = True
            why = "the fork server died, and with it the rank's exit code"
            self._tell_exit(kept.number, code, why if handle.is_lost else "")

    def _tell_exit(self, world: int, code: int | None, why: str) -> None:
        known = None if why else code
        self._link.send({"kind": "exited", "world": world, "code": known, "why": why})

    # From rank 0

    def _hear_rank_0(self) -> None:
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
            kept = self._worlds.get(message["world"])
            do: Callable[[Message, _Kept], None] = getattr(self, f"_do_{kind}")
            if kept is not None:
                do(message, kept)
            elif "number" in message:
                self._answer(message, {})

    def _answer(self, question: Message, value: Any) -> None:
        self._link.send({"kind": "answer", "number": question["number"], "value": value})

    def _start(self, message: Message) -> None:
        number = message["world"]
        try:
            folder = str(folders.new_test_folder(message["message"]["method"]))
            kept = self._worlds[number] = _Kept(number, message["rank"], folder)
            spec = self._spec(message, kept)
            if spec is None:
                return
            launcher().need([spec.module])
            factory = launcher().factory(Deadline.after(settings.START_TIMEOUT_S.value()))
            kept.world.begin(spec, factory, [kept.rank])
        except Exception as error:
            traceback.print_exc()
            if number in self._worlds:
                self._worlds[number].has_told_exit = True
            why = f"it could not be started: {type(error).__name__}: {error}"
            self._tell_exit(number, None, why)
            return
        handle = kept.world.handles[0]
        self._link.send({"kind": "started", "world": number, "pid": handle.pid})

    def _spec(self, message: Message, kept: _Kept) -> LaunchSpec | None:
        """The spec in a message from rank 0; None if it is none, which ends this process."""
        try:
            return self._own(message["message"], kept)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            self._link.fail(f"a launch spec with a fault ({type(error).__name__}: {error})")
            return None

    def _own(self, data: Message, kept: _Kept) -> LaunchSpec:
        """The spec of a test as it is to be for this process."""
        changes = data.pop("changes")
        surroundings = self._base.changed_by(changes)
        temp = folders.temp_folder(kept.folder)
        spec = msgspec.convert(
            {
                **data,
                "environ": launch_environ(temp, surroundings.environ, self._interface),
                "cwd": surroundings.cwd,
                "sys_path": surroundings.sys_path,
            },
            LaunchSpec,
        )
        on_this_host = spec.world_size
        if spec.has_real_nodes:
            on_this_host = seat_of(kept.rank, spec.node_sizes).local_world_size
        return replace(
            spec,
            world_folder=kept.folder,
            store_host=self._link.other_address,
            threads=rank_threads(on_this_host),
        )

    def _do_again(self, message: Message, kept: _Kept) -> None:
        spec = self._spec(message, kept)
        if spec is not None:
            kept.world.run(spec)

    def _do_go_on(self, message: Message, kept: _Kept) -> None:
        order = to_rank(message["message"])
        assert isinstance(order, RunExample | NoMoreExamples)
        kept.world.go_on(order)

    def _do_order(self, message: Message, kept: _Kept) -> None:
        if kept.handle is not None:
            kept.handle.order(encode(message["message"]))

    def _do_signal(self, message: Message, kept: _Kept) -> None:
        if kept.handle is not None and kept.handle.exit_code is None:
            kept.handle.signal_group(message["signal"])

    def _do_look(self, message: Message, kept: _Kept) -> None:
        wish = Wish(stacks=message["stacks"], native=message["native"])
        look = kept.world.look({kept.rank: wish}).get(kept.rank)
        self._answer(message, asdict(look) if look is not None else {})

    def _do_logs(self, message: Message, kept: _Kept) -> None:
        logs = kept.world.logs
        if kept.handle is not None:
            kept.handle.pass_on_output()
        self._answer(message, tails_of(logs, kept.rank, message["lines"], message["bytes"]))

    def _do_leftovers(self, message: Message, kept: _Kept) -> None:
        found = kept.world.end_leftovers(message["grace_s"])
        left = [{"pid": f.pid, "command": f.command, "rank": f.rank} for f in found]
        self._answer(message, left)

    def _do_close(self, message: Message, kept: _Kept) -> None:
        del self._worlds[kept.number]
        self._end(kept)

    def _end_all(self) -> None:
        for kept in self._worlds.values():
            self._end(kept)
        self._worlds.clear()

    def _end(self, kept: _Kept) -> None:
        kept.world.end(TERM_GRACE_S if kept.world.living() else 0.0)
        kept.world.end_leftovers()
        kept.world.close()
        folders.remove(kept.folder)

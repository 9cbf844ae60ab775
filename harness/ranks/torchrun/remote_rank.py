"""Rank 0's handle on a rank that another process has started."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from harness.model.clock import Deadline, now
from harness.model.outcome import Ended, Lost
from harness.model.spec import LaunchSpec
from harness.ranks.channel import Message, encode, wrapped
from harness.ranks.handle import RankHandle
from harness.ranks.messages import ToRank
from harness.ranks.torchrun.peer import Peer, gather
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

    def start_with(self, spec: bytes) -> None:
        """Have the peer start the rank.

        Args:
            spec: the launch spec for another process, as `frame_of` makes it.
        """
        self.asked_s = now()
        frame = wrapped(spec, kind="start", world=self._world, rank=self.rank)
        self.peer.link.send_frame(frame)

    def run_again(self, spec: bytes) -> None:
        """Have the idle rank run another test."""
        self.is_new = False
        self.asked_s = now()
        self.peer.link.send_frame(wrapped(spec, kind="again", world=self._world))

    def resume(self, order: bytes) -> None:
        """Send an order to a rank of a property test, which waits for one."""
        self.is_new = False
        self.asked_s = now()
        self.peer.link.send_frame(wrapped(order, kind="go_on", world=self._world))

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

    def messages(self) -> list[Message]:
        self.peer.pump()
        try:
            return [_on_our_clock(message, self.peer) for message in self._inbox.take()]
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            self.peer.link.fail(f"times that are none ({type(error).__name__}: {error})")
            return []

    def order(self, frame: bytes) -> None:
        self.peer.link.send_frame(wrapped(frame, kind="order", world=self._world))

    def ask(self, message: ToRank) -> bool:
        self.order(frame(message))
        return not self.peer.is_lost

    def state(self) -> str:
        asked = {self.peer: self.peer.ask("look", world=self._world, stacks=False, native=False)}
        found = gather(asked, Deadline.after(_ANSWER_S)).get(self.peer)
        return found["state"] if found else ""

    def signal_group(self, number: int) -> None:
        self.peer.link.send({"kind": "signal", "world": self._world, "signal": number})

    def close(self) -> None:
        self.peer.link.send({"kind": "close", "world": self._world})
        self.peer.close(self._world)


def frame_of(spec: LaunchSpec, changes: Mapping[str, Any]) -> bytes:
    """Return a launch spec for other processes, with the changes to their surroundings."""
    data = msgspec.to_builtins(spec, enc_hook=repr)
    del data["surroundings"]
    return encode({**data, "changes": changes})


def _on_our_clock(message: Message, peer: Peer) -> Message:
    """Return a message of a rank with its times converted to this host's clock."""
    for name in ("at_s", "since_s"):
        if name in message:
            message[name] = peer.on_our_clock(message[name])
    for span in message.get("spans", ()):
        span["began_s"] = peer.on_our_clock(span["began_s"])
        if span["ended_s"] is not None:
            span["ended_s"] = peer.on_our_clock(span["ended_s"])
    return message

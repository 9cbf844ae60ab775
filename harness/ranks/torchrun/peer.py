"""The other processes of a given world, as rank 0 sees them: what each of them says, to whom."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from harness.model import settings
from harness.model.clock import Deadline, now
from harness.model.outcome import Ended, Lost
from harness.ranks.channel import Message
from harness.ranks.descriptors import readable
from harness.ranks.torchrun.gathering import Member
from harness.ranks.torchrun.links import Link
from harness.ranks.torchrun.messages import ANSWERS, TO_RANK_0, fault_of

_numbers = itertools.count(1)
# So many questions tell how far another clock is off; the quickest answer tells best.
_PINGS = 5
_PING_S = 5.0


class Inbox:
    """What one process says of one world of ranks.

    Args:
        link: where it comes from.

    Attributes:
        pid, code, why_lost: what has been said of the rank's process; None and empty if nothing.
    """

    def __init__(self, link: Link) -> None:
        self._messages: list[Message] = []
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.epoll()
        for fd in (link.fd, self._wakeup):
            self._poll.register(fd, select.EPOLLIN)
        self.pid: int | None = None
        self.code: int | None = None
        self.why_lost = ""

    @property
    def fd(self) -> int:
        """Readable when there is, or may be, something that has not been heard."""
        return self._poll.fileno()

    def put(self, message: Message) -> None:
        kind = message["kind"]
        if kind == "rank":
            self._messages.append(message["message"])
        elif kind == "started":
            self.pid = message["pid"]
        elif kind == "exited":
            self.code, self.why_lost = message["code"], message["why"]
        # Whoever looked last may have been asking for something else.
        os.eventfd_write(self._wakeup, 1)

    def take(self) -> list[Message]:
        """What the rank has said."""
        if self.code is None:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wakeup)
        taken, self._messages = self._messages, []
        return taken

    def close(self) -> None:
        self._poll.close()
        os.close(self._wakeup)


class Peer:
    """One other process, which keeps a rank.

    Args:
        member: who it is.
        link: the connection to it.

    Attributes:
        told_to_end: the signal by which it has been told to end; 0 for none.
        all: all of them, this one included.
        silent_hosts: the numbers of hosts that give no sign of life, which all of them share.
    """

    def __init__(self, member: Member, link: Link) -> None:
        self.member = member
        self.link = link
        self.told_to_end = 0
        self.all: Sequence[Peer] = [self]
        self.silent_hosts: set[int] = set()
        self._inboxes: dict[int, Inbox] = {}
        self._asked: dict[int, str] = {}
        self._answers: dict[int, Any] = {}
        self._clock_ahead_s = 0.0

    def __repr__(self) -> str:
        return f"<{self.member}{' lost' if self.is_lost else ''}>"

    def open(self, world: int) -> Inbox:
        """An inbox for what it will say of a world."""
        inbox = self._inboxes[world] = Inbox(self.link)
        return inbox

    def close(self, world: int) -> None:
        inbox = self._inboxes.pop(world, None)
        if inbox is not None:
            inbox.close()

    def pump(self) -> None:
        """Put what it has said by now where it belongs."""
        if self.link.fell_silent:
            self.silent_hosts.add(self.member.group)
        for message in self.link.messages():
            if fault := self._fault_of(message):
                self.link.fail(fault)
                return
            kind = message["kind"]
            if kind == "answer":
                self._answers[message["number"]] = message["value"]
            elif kind == "ending":
                self.told_to_end = message["signal"]
            elif message["world"] in self._inboxes:  # else of a world that has been closed
                self._inboxes[message["world"]].put(message)

    def _fault_of(self, message: Message) -> str:
        fault = fault_of(message, TO_RANK_0)
        if fault or message["kind"] != "answer":
            return fault
        kind = self._asked.pop(message["number"], "")
        if kind and ANSWERS[kind](message["value"]):
            return ""
        return f"{message['value']!r:.100} as the answer to {kind or 'no question'}"

    @property
    def is_lost(self) -> bool:
        """Whether nothing more is to be expected of it."""
        is_silent = self.member.group in self.silent_hosts
        return self.link.closed or is_silent or bool(self.told_to_end)

    @property
    def has_died(self) -> bool:
        """Whether it has gone without having been told to."""
        return self.is_lost and not self.told_to_end

    @property
    def why_lost(self) -> str:
        """In words, what has become of it."""
        if self.told_to_end:
            name = signal.Signals(self.told_to_end).name
            return f"its process was told to end by {name}, as torchrun does when another has died"
        if self.member.group in self.silent_hosts:
            limit_s = settings.LINK_TIMEOUT_S.value()
            return (
                f"no sign of life from {self.member.host} for {limit_s:g} s: the host is gone, or "
                "the network between"
            )
        if self.link.fault:
            return (
                f"rank 0 cannot read what its process on {self.member.host} sent: {self.link.fault}"
            )
        if self.link.is_stuck:
            limit_s = settings.START_TIMEOUT_S.value()
            return (
                f"its process on {self.member.host} has taken no message for {limit_s:g} s "
                "(HARNESS_START_TIMEOUT): it is stopped, or stuck"
            )
        return (
            f"its process on {self.member.host} has gone, and with it the rank's exit code; "
            "torchrun has printed there how it ended"
        )

    @property
    def outcome_if_lost(self) -> Lost | Ended:
        """What became of its rank: of those that torchrun ends after the first, nothing new."""
        is_echo = self.told_to_end and any(peer.has_died for peer in self.all)
        return Ended() if is_echo else Lost(self.why_lost)

    def on_our_clock(self, at_s: float) -> float:
        """A time of the other host's clock on ours."""
        return at_s - self._clock_ahead_s

    # Questions

    def ask(self, kind: str, **more: Any) -> int:
        """Put a question; returns its number."""
        number = next(_numbers)
        self._asked[number] = kind
        self.link.send({"kind": kind, "number": number, **more})
        return number

    def answer_to(self, number: int) -> Any:
        """The answer, if it has come."""
        return self._answers.pop(number, None)

    def compare_clocks(self) -> None:
        """Learn how far the other clock is ahead, from the quickest of some answers."""
        best_s = float("inf")
        for _ in range(_PINGS):
            asked_s = now()
            answers = gather({self: self.ask("clock")}, Deadline.after(_PING_S))
            took_s = now() - asked_s
            if self in answers and took_s < best_s:
                best_s = took_s
                self._clock_ahead_s = answers[self] - (asked_s + took_s / 2)


def gather(asked: Mapping[Peer, int], deadline: Deadline) -> dict[Peer, Any]:
    """The answers to questions, waited for; those of peers that do not answer are left out."""
    found: dict[Peer, Any] = {}
    open_ = dict(asked)
    while open_:
        for peer, number in list(open_.items()):
            peer.pump()
            answer = peer.answer_to(number)
            if answer is not None:
                found[peer] = answer
            if answer is not None or peer.link.closed:
                del open_[peer]
        if open_ and not readable([peer.link.fd for peer in open_], deadline):
            break
    return found

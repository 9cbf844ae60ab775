"""Rank 0's view of the other processes: receive their messages, and route them to the worlds."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
from collections.abc import Mapping, Sequence
from typing import TypeVar, assert_never

from harness.model import settings
from harness.model.clock import Deadline, now
from harness.model.outcome import Ended, Lost
from harness.ranks.descriptors import readable
from harness.ranks.messages import FromRank
from harness.ranks.torchrun.gathering import Member
from harness.ranks.torchrun.links import Link
from harness.ranks.torchrun.messages import (
    Answer,
    Answered,
    Asked,
    ClockAnswer,
    ClockQuestion,
    Ending,
    FromAgent,
    Question,
    RankExited,
    RankSent,
    RankStarted,
    RankUnreadable,
    from_agent,
)

_Answer = TypeVar("_Answer", bound=Answer)
_numbers = itertools.count(1)
# How many questions to ask for the offset of another host's clock; the fastest answer counts.
_PINGS = 5
_PING_S = 5.0


class Inbox:
    """The messages of one process about one world.

    Args:
        link: the connection to the process.

    Attributes:
        pid, code, why_lost: what the process has reported about its rank; None or empty before.
        fault: what the rank has sent that is no message; empty if there was none.
    """

    def __init__(self, link: Link) -> None:
        self._messages: list[FromRank] = []
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.epoll()
        for fd in (link.fd, self._wakeup):
            self._poll.register(fd, select.EPOLLIN)
        self.pid: int | None = None
        self.code: int | None = None
        self.why_lost = self.fault = ""

    @property
    def fd(self) -> int:
        """A descriptor that is readable when there may be unread messages."""
        return self._poll.fileno()

    def put(self, message: RankStarted | RankSent | RankUnreadable | RankExited) -> None:
        match message:
            case RankStarted(_, pid):
                self.pid = pid
            case RankSent(_, sent):
                self._messages.append(sent)
            case RankUnreadable(_, fault):
                self.fault = fault
            case RankExited(_, code, why):
                self.code, self.why_lost = code, why
            case _:
                assert_never(message)
        # `pump()` may run for another inbox of the same link and drain the socket. The eventfd
        # keeps this inbox readable for the supervisor's loop.
        os.eventfd_write(self._wakeup, 1)

    def take(self) -> list[FromRank]:
        """Return the unread messages of the rank."""
        if self.code is None:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wakeup)
        taken, self._messages = self._messages, []
        return taken

    def close(self) -> None:
        self._poll.close()
        os.close(self._wakeup)


class Peer:
    """One other process, which runs ranks on request.

    Args:
        member: its description.
        link: the connection to it.

    Attributes:
        ended_by: the signal that it has received and that ends it; 0 for none.
        all: all peers, this one included.
        clock_ahead_s: how far its clock is ahead of ours; 0 if it has the same clock.
        silent_hosts: the numbers of hosts without a sign of life; all peers share this set.
    """

    def __init__(self, member: Member, link: Link) -> None:
        self.member = member
        self.link = link
        self.ended_by = 0
        self.all: Sequence[Peer] = [self]
        self.silent_hosts: set[int] = set()
        self._inboxes: dict[int, Inbox] = {}
        self._asked: set[int] = set()
        self._answers: dict[int, Answer | None] = {}
        self.clock_ahead_s = 0.0

    def __repr__(self) -> str:
        return f"<{self.member}{' lost' if self.is_lost else ''}>"

    def open(self, world: int) -> Inbox:
        """Return a new inbox for the messages about a world."""
        inbox = self._inboxes[world] = Inbox(self.link)
        return inbox

    def close(self, world: int) -> None:
        inbox = self._inboxes.pop(world, None)
        if inbox is not None:
            inbox.close()

    def pump(self) -> None:
        """Read all messages that have arrived and route them."""
        if self.link.fell_silent:
            self.silent_hosts.add(self.member.group)
        for message in self.link.messages(from_agent):
            self._handle_message(message)

    def _handle_message(self, message: FromAgent) -> None:
        match message:
            case RankStarted() | RankSent() | RankUnreadable() | RankExited():
                inbox = self._inboxes.get(message.world)
                if inbox is not None:  # otherwise the world has been closed
                    inbox.put(message)
            case Answered(number, answer):
                if number in self._asked:
                    self._asked.remove(number)
                    self._answers[number] = answer
                else:
                    self.link.fail(f"{answer!r:.100} as the answer to no question")
            case Ending(number):
                self.ended_by = number
            case _:
                assert_never(message)

    @property
    def is_lost(self) -> bool:
        """Whether the process has gone or is ending, so that its ranks are lost."""
        is_silent = self.member.group in self.silent_hosts
        return self.link.closed or is_silent or bool(self.ended_by)

    @property
    def has_died(self) -> bool:
        """Whether the process has gone without a signal from torchrun."""
        return self.is_lost and not self.ended_by

    @property
    def why_lost(self) -> str:
        """Return why the process is lost, as text."""
        if self.ended_by:
            name = signal.Signals(self.ended_by).name
            return (
                f"its process received {name}, which torchrun sends when another process has died"
            )
        if self.member.group in self.silent_hosts:
            limit_s = settings.LINK_TIMEOUT_S.value()
            return (
                f"no sign of life from {self.member.host} for {limit_s:g} s: the host is down, or "
                "the network to it"
            )
        if self.link.fault:
            return (
                f"rank 0 cannot read what its process on {self.member.host} sent: {self.link.fault}"
            )
        if self.link.is_stuck:
            limit_s = settings.START_TIMEOUT_S.value()
            return (
                f"its process on {self.member.host} has read no message for {limit_s:g} s "
                "(HARNESS_START_TIMEOUT): it is stopped, or hangs"
            )
        return (
            f"its process on {self.member.host} has ended, so the rank's exit code is unknown; "
            "torchrun's output there says how it ended"
        )

    @property
    def outcome_if_lost(self) -> Lost | Ended:
        """The outcome of its rank if lost.

        torchrun ends all processes after the first one dies; those are not a cause of their own.
        """
        is_echo = self.ended_by and any(peer.has_died for peer in self.all)
        return Ended() if is_echo else Lost(self.why_lost)

    def on_our_clock(self, at_s: float) -> float:
        """Convert a time of the other host's clock to ours."""
        return at_s - self.clock_ahead_s

    # Questions

    def ask(self, question: Question) -> int:
        """Send a question and return its number."""
        number = next(_numbers)
        self._asked.add(number)
        self.link.send(Asked(number, question))
        return number

    def take_answer(self, number: int, kind: type[_Answer]) -> tuple[bool, _Answer | None]:
        """Return whether the question has been answered, and the answer.

        The answer is None if the process has closed the world, or gave an answer of another kind.
        """
        if number not in self._answers:
            return False, None
        answer = self._answers.pop(number)
        if answer is None or isinstance(answer, kind):
            return True, answer
        self.link.fail(f"{answer!r:.100} as the {kind.__name__}")
        return True, None

    def compare_clocks(self) -> None:
        """Estimate the other clock's offset from the fastest of several answers, as NTP does."""
        best_s = float("inf")
        for _ in range(_PINGS):
            asked_s = now()
            number = self.ask(ClockQuestion())
            answers = gather({self: number}, ClockAnswer, Deadline.after(_PING_S))
            took_s = now() - asked_s
            if self in answers and took_s < best_s:
                best_s = took_s
                self.clock_ahead_s = answers[self].at_s - (asked_s + took_s / 2)


def gather(
    asked: Mapping[Peer, int], kind: type[_Answer], deadline: Deadline
) -> dict[Peer, _Answer]:
    """Wait for the answers to questions.

    Args:
        asked: the peers, and the numbers of the questions.
        kind: the kind of the answers.
        deadline: when to give up.

    Returns:
        the answers of those peers that have answered in time and know the world.
    """
    found: dict[Peer, _Answer] = {}
    open_ = dict(asked)
    while open_:
        for peer, number in list(open_.items()):
            peer.pump()
            has_answered, answer = peer.take_answer(number, kind)
            if answer is not None:
                found[peer] = answer
            if has_answered or peer.link.closed:
                del open_[peer]
        if open_ and not readable([peer.link.fd for peer in open_], deadline):
            break
    return found

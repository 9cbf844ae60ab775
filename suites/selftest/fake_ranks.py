"""Ranks and worlds without processes, and a clock that only tests move.

A test writes a script of what ranks say and when they exit; the code under test waits for it on a
clock that jumps to the next event. Nothing here takes real time.
"""

from __future__ import annotations

import heapq
import itertools
import json
import signal
import threading
import time
import unittest
from collections.abc import Callable, Iterable, Iterator
from unittest import mock

from harness.model import clock
from harness.model.clock import Deadline
from harness.model.outcome import Ended, Lost
from harness.ranks.channel import Message
from harness.ranks.handle import RankHandle
from harness.ranks.messages import FromRank, Leave, ToRank, from_rank, to_rank
from harness.ranks.typed_message import frame, read
from harness.ranks.world import World

# Above any descriptor that is really open.
_FIRST_FD = 100_000
_LENGTH_SIZE = 8
# A script that is not over by then has no end.
_LIMIT_S = 1000.0
# How often a loop may come round in one moment.
_MAX_ROUNDS = 100


def data_of(sent: bytes) -> Message:
    """Return the JSON data of a frame, as the other side gets it."""
    return json.loads(sent[_LENGTH_SIZE:])


class FakeRank(RankHandle):
    """A rank that says what a test has it say.

    Attributes:
        asked, ordered: the messages that it was sent by `ask()` and `order()`.
        signals: the signals that it was sent.
        answer: returns what it answers to a question; by default nothing, as a mute rank.
        lost: its outcome if nobody will know its exit code; None if somebody will.
        fault: what it sent that is no message.
        survives: whether not even SIGKILL ends it.
    """

    fault = ""

    def __init__(self, rank: int) -> None:
        super().__init__(rank, process=None)
        self.asked: list[ToRank] = []
        self.ordered: list[ToRank] = []
        self.signals: list[int] = []
        self.answer: Callable[[ToRank], Iterable[FromRank]] = lambda question: ()
        self.lost: Lost | Ended | None = None
        self.survives = False
        self.group = 4000 + rank
        self._unheard: list[Message] = []
        self._last_words: list[Message] = []
        self._exit_code: int | None = None

    # What a test has it do.

    def say(self, *messages: FromRank) -> None:
        self._unheard += [data_of(frame(message)) for message in messages]

    def say_data(self, data: Message) -> None:
        """Say something that need not be a message."""
        self._unheard.append(data)

    def exit(self, code: int = 0, last_words: Iterable[FromRank] = ()) -> None:
        """End; the last words arrive only after somebody has seen that it has ended."""
        self._exit_code = code
        self._last_words = [data_of(frame(message)) for message in last_words]

    def ready_fds(self) -> set[int]:
        """Return the descriptors that have something to read."""
        exited = {self.exit_fd} if self._exit_code is not None else set()
        return exited | ({self._channel_fd} if self._unheard else set())

    # What `RankHandle` asks for.

    @property
    def _channel_fd(self) -> int:
        return _FIRST_FD + 2 * self.rank

    @property
    def pid(self) -> int:
        return 5000 + self.rank

    @property
    def exit_code(self) -> int | None:
        if self._exit_code is not None:
            self._unheard += self._last_words
            self._last_words = []
        return self._exit_code

    @property
    def is_lost(self) -> bool:
        return self.lost is not None

    @property
    def outcome_if_lost(self) -> Lost | Ended:
        assert self.lost is not None
        return self.lost

    @property
    def terminal_group(self) -> int:
        return self.group

    @property
    def exit_fd(self) -> int:
        return self._channel_fd + 1

    @property
    def open_fds(self) -> list[int]:
        return [self.exit_fd] if self.fault else [self.exit_fd, self._channel_fd]

    def pass_on_output(self) -> None:
        pass

    def end_output(self) -> None:
        pass

    def messages(self) -> list[FromRank]:
        return read(self, from_rank)

    def read(self) -> list[Message]:
        """Be the reader of the channel, too."""
        heard, self._unheard = self._unheard, []
        return [] if self.fault else heard

    def fail(self, fault: str) -> None:
        self.fault = fault

    def state(self) -> str:
        return "sleeping"

    def order(self, frame: bytes) -> None:
        self.ordered.append(to_rank(data_of(frame)))

    def ask(self, message: ToRank) -> bool:
        self.asked.append(message)
        self.say(*self.answer(message))
        return True

    def signal_group(self, number: int) -> None:
        self.signals.append(number)

    def close(self) -> None:
        pass


class FakeWorld(World):
    """A world of fake ranks.

    Attributes:
        killed: the ranks that had to be ended.
        ran: the specs of the tests that it was told to run after the first one.
        was_asked_to_exit: whether its ranks were asked to leave.
        odd_exits: exit codes of ranks that do not leave with 0 when they are asked, by rank.
        leftovers: what the ranks leave running.
        is_closed: whether its descriptors were given back.
    """

    handles: list[FakeRank]

    def __init__(self, size: int, folder: str = "/nonexistent") -> None:
        super().__init__(folder)
        self.handles = [FakeRank(rank) for rank in range(size)]
        self.killed: list[int] = []
        self.ran = []
        self.was_asked_to_exit = self.is_closed = False
        self.odd_exits: dict[int, int] = {}
        self.leftovers: list[str] = []

    def run(self, spec):
        self.is_idle = self.is_clean = False
        self.ran.append(spec)

    def end(self, grace_s):
        living = self.living()
        self.killed += [handle.rank for handle in living]
        for handle in living:
            if not handle.survives:
                handle.exit(-signal.SIGKILL)
        return self.living()

    def request_exit(self, limit_s, grace_s):
        self.was_asked_to_exit = True
        for handle in self.living():
            handle.ask(Leave())
            handle.exit(self.odd_exits.get(handle.rank, 0))
        return [handle for handle in self.handles if handle.exit_code != 0]

    def end_leftovers(self, grace_s=0.0):
        return self.leftovers

    def close(self):
        assert not self.is_closed, "this world was given back twice"
        self.is_closed = True


class FakeClock:
    """Stands in for the module `time` in `harness.model.clock`, for one thread only."""

    def __init__(self) -> None:
        self.time = self.start = 1000.0
        self._thread = threading.get_ident()

    def monotonic(self) -> float:
        return self.time if threading.get_ident() == self._thread else time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return round(self.time - self.start, 6)


class FakeTimeTestCase(unittest.TestCase):
    """A test whose clock stands still unless the test moves it."""

    def setUp(self) -> None:
        self.clock = FakeClock()
        self.patch(clock, "time", self.clock)

    def patch(self, owner, name, value) -> None:
        self.enterContext(mock.patch.object(owner, name, value))


class Script:
    """What happens to fake ranks, and when; `readable` waits for it in place of the kernel.

    Args:
        clock: the clock that jumps from event to event.
        ranks: the ranks.
    """

    def __init__(self, clock: FakeClock, ranks: list[FakeRank]) -> None:
        self._clock = clock
        self._ranks = ranks
        self._numbers: Iterator[int] = itertools.count()
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._last_time, self._rounds = clock.time, 0

    def at(self, seconds: float, action: Callable[..., object], *args: object) -> None:
        """Call the action so many seconds after the start."""
        event = (self._clock.start + seconds, next(self._numbers), lambda: action(*args))
        heapq.heappush(self._events, event)

    def readable(self, descriptors: Iterable[int], deadline: Deadline) -> set[int]:
        """Return the descriptors with news, as soon as there is some; none at the deadline."""
        watched = set(descriptors)
        while not (ready := watched & set().union(*(rank.ready_fds() for rank in self._ranks))):
            if not self._run_next(deadline.at):
                self._clock.time = max(self._clock.time, deadline.at)
                break
        assert self._clock.elapsed_s < _LIMIT_S, "nobody ended this test"
        self._rounds = 0 if self._clock.time > self._last_time else self._rounds + 1
        self._last_time = self._clock.time
        assert self._rounds < _MAX_ROUNDS, "the loop spins: it waits for what has passed"
        return ready

    def _run_next(self, until: float) -> bool:
        """Run all that happens at the next moment, if that comes early enough."""
        if not self._events or self._events[0][0] > until:
            return False
        moment = self._events[0][0]
        self._clock.time = max(self._clock.time, moment)
        while self._events and self._events[0][0] == moment:
            heapq.heappop(self._events)[-1]()
        return True

"""Workers without processes, for the tests of `WorkerPool`, on the clock that only tests move.

A fake worker does with its tests what a test has put into its `behaviour`; nothing here takes real
time. Afterwards, a test can check which messages and signals it received.
"""

from __future__ import annotations

import dataclasses
import signal
from collections import deque
from collections.abc import Callable, Mapping

from harness.model.clock import NEVER, Deadline, now
from harness.runner.results import Status, TestRecord, Trouble
from harness.runner.selection.planned_test import Found
from harness.runner.workers import messages
from harness.runner.workers.schedule import Item
from harness.runner.workers.worker import Worker
from suites.selftest.fake_ranks import Script

# Above the descriptors of fake ranks.
_FIRST_FD = 200_000


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """What a worker does when it runs a test.

    Attributes:
        start_s: how long the worker takes to begin with it.
        seconds: how long the test takes; None if it never ends.
        fails: in how many attempts it fails, from the first one on.
        exits: the exit code with which the worker then ends instead of a result.
        exits_afterwards: the exit code with which it ends as soon as it has said its result, which
            arrives only after somebody has seen that it has ended.
        first: called with the worker when the test begins.
        more: what the worker says between the start and the end of the test.
        blocked_by: the fixture that keeps it from running.
        after_s: how long its class's tear-down takes, which comes between its record and its end.
    """

    start_s: float = 0.0
    seconds: float | None = 1.0
    fails: int = 0
    exits: int | None = None
    exits_afterwards: int | None = None
    first: Callable[[FakeWorker], object] = lambda worker: None
    more: tuple[messages.FromWorker, ...] = ()
    blocked_by: str = ""
    after_s: float = 0.0


@dataclasses.dataclass
class World:
    """What all workers of a run share.

    Attributes:
        script: what happens when.
        sources: what the script watches for news; new workers are added to it.
        behaviours: what a worker does with each test, by the last part of the test's id.
        runs: each attempt at a test that has begun: worker, test, seconds since the start.
        found: what the first worker discovers; the messages in its place if it discovers nothing.
        answers: whether workers say where their tests are.
        heeds_term: whether SIGTERM ends them.
        leaves: the exit code with which they leave when they are told to; None if they do not.
        tear_down_s: how long they need to take down a fixture.
        server: the fork server that workers come from; another one once modules were preloaded.
    """

    script: Script
    sources: list[object]
    behaviours: Mapping[str, Behaviour] = dataclasses.field(default_factory=dict)
    runs: list[tuple[int, str, float]] = dataclasses.field(default_factory=list)
    found: Found | None = None
    answers: bool = True
    heeds_term: bool = True
    leaves: int | None = 0
    tear_down_s: float = 0.0
    server: object = "the first server"
    began_s: float = dataclasses.field(default_factory=now)

    @property
    def workers(self) -> list[FakeWorker]:
        """Return all workers, in the order of their start."""
        return [source for source in self.sources if isinstance(source, FakeWorker)]

    def elapsed_s(self) -> float:
        return round(now() - self.began_s, 6)


class FakeWorker(Worker):
    """A worker whose process is a script.

    Attributes:
        told: the messages that it was sent.
        signals: the signals that it was sent.
        left_record: what `last_record()` returns.
        unreadable: what came from it that is no message.
        is_closed: whether its descriptors were given back.
    """

    def __init__(self, number: int, world: World) -> None:
        self.number = number
        self.server = world.server
        self.items = deque()
        self.last = self.began_s = None
        self.is_new, self.has_fixtures = True, False
        self.is_leaving = self.is_overdue = self.is_stopped = self.has_record = False
        self.is_damaged = self.was_terminated = self.said_goodbye = False
        self.deadline = NEVER
        self.where, self.printed = "", (0, 0)
        self.told: list[messages.ToWorker] = []
        self.signals: list[int] = []
        self.left_record: TestRecord | None = None
        self.unreadable = ""
        self.is_closed = False
        self._world = world
        self._serial = len(world.workers)
        self._queue: deque[messages.TestToRun] = deque()
        self._running: messages.TestToRun | None = None
        self._drops = False
        self._unheard: list[messages.FromWorker] = []
        self._last_words: list[messages.FromWorker] = []
        self._code: int | None = None
        world.sources.append(self)

    # What its process does.

    def say(self, *said: messages.FromWorker) -> None:
        if self._code is None:
            self._unheard += said

    def exit(self, code: int) -> None:
        self._code = code if self._code is None else self._code

    def later(self, seconds: float, action: Callable[..., object], *args: object) -> None:
        """Do it after so many seconds, unless the process has ended by then."""

        def act() -> None:
            if self._code is None:
                action(*args)

        self._world.script.at(self._world.elapsed_s() + seconds, act)

    def _begin_next(self) -> None:
        if self._running is None and self._drops:
            self.say(*(messages.Canceled() for _ in self._queue))
            self._queue.clear()
        if self._running is None and self._queue:
            test = self._running = self._queue.popleft()
            name = test.place[1].rpartition(".")[2]
            behaviour = self._world.behaviours.get(name, Behaviour())
            self.later(behaviour.start_s, self._begin, test, name, behaviour)

    def _begin(self, test: messages.TestToRun, name: str, behaviour: Behaviour) -> None:
        self._world.runs.append((self.number, name, self._world.elapsed_s()))
        self.say(messages.Started(now(), (0, 0)), *behaviour.more)
        behaviour.first(self)
        if behaviour.seconds is not None:
            self.later(behaviour.seconds, self._end, test, name, behaviour)

    def _end(self, test: messages.TestToRun, name: str, behaviour: Behaviour) -> None:
        if behaviour.exits is not None:
            self.exit(behaviour.exits)
            return
        attempts = sum(ran == name for _, ran, _ in self._world.runs)
        record = TestRecord(test.place[1], Status.PASSED, copy=test.copy, worker=self.number)
        if attempts <= behaviour.fails:
            record.status = Status.FAILED
            record.troubles = [Trouble("FAIL", test.place[1], "AssertionError: no")]
        if behaviour.exits_afterwards is not None:
            self._last_words = [messages.Ended(record), messages.Done("")]
            self.exit(behaviour.exits_afterwards)
            return
        if not behaviour.blocked_by:
            self.say(messages.Ended(record))
        self.later(behaviour.after_s, self._end_fixtures, behaviour)

    def _end_fixtures(self, behaviour: Behaviour) -> None:
        self.say(messages.Done(behaviour.blocked_by))
        self._running = None
        self._begin_next()

    # What `Worker` does with a process.

    def send(self, message: messages.ToWorker) -> None:
        self.told.append(message)
        match message:
            case messages.Discover() if self._world.found is not None:
                self.say(messages.Discovered(self._world.found))
            case messages.RunTests(tests):
                self._queue.extend(tests)
                self._begin_next()
            case messages.CancelTests():
                self._drops = True
                self._begin_next()
            case messages.TearDown():
                self.later(self._world.tear_down_s, self.say, messages.TornDown())
            case messages.WhereRequest() if self._world.answers:
                self.say(messages.WhereAnswer(f"  worker {self.number} runs"))
            case messages.Leave() if self._world.leaves is not None:
                self.say(messages.Goodbye())
                self.exit(self._world.leaves)

    def terminate(self, grace_s: float) -> None:
        self.is_leaving = self.was_terminated = True
        self.deadline = Deadline.after(grace_s)
        self.signals.append(signal.SIGTERM)
        if self._world.heeds_term:
            self.exit(-signal.SIGTERM)

    def _signal_group(self, number: int) -> None:
        self.signals.append(number)
        if number == signal.SIGKILL:
            self.exit(-number)

    @property
    def pid(self) -> int:
        return 6000 + self._serial

    @property
    def has_ended(self) -> bool:
        if self._code is not None:
            self._unheard += self._last_words
            self._last_words = []
        return self._code is not None

    def exit_code(self) -> int:
        assert self._code is not None
        return self._code

    @property
    def open_fds(self) -> list[int]:
        return [_FIRST_FD + 2 * self._serial, _FIRST_FD + 2 * self._serial + 1]

    def ready_fds(self) -> set[int]:
        """Return the descriptors that have something to read."""
        exited, channel = self.open_fds
        ready = {channel} if self._unheard else set()
        return ready | {exited} if self._code is not None and not self.is_closed else ready

    def messages(self) -> list[messages.FromWorker]:
        heard, self._unheard = self._unheard, []
        return heard

    @property
    def is_lost(self) -> bool:
        return False

    @property
    def fault(self) -> str:
        return self.unreadable

    def last_record(self) -> TestRecord | None:
        return self.left_record

    def unread_output(self) -> tuple[str, str]:
        return ("out\n", "err\n")

    def close(self) -> None:
        assert not self.is_closed, "this worker was given back twice"
        self.is_closed = True


class FakeStarter:
    """Starts fake workers.

    Attributes:
        preloaded: the modules that new workers have imported, too.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.preloaded: list[str] = []

    def start(self, number: int) -> FakeWorker:
        return FakeWorker(number, self._world)

    def preload(self, modules: tuple[str, ...]) -> None:
        self.preloaded += modules
        self._world.server = "a server that has imported more"

    def has_newer_server(self, worker: Worker) -> bool:
        return worker.server != self._world.server


class FakeSignals:
    """What the user asks for; a test sets it, and a descriptor shows that there is news."""

    fd = _FIRST_FD - 1

    def __init__(self) -> None:
        self.interrupts = 0
        self.stopped_by = ""
        self.suspensions = self.questions = 0
        self.suspended: Callable[[], object] = lambda: None
        self._has_news = False

    def interrupt(self) -> None:
        self.interrupts += 1
        self.stopped_by = "Ctrl-C"
        self._has_news = True

    def question(self) -> None:
        self.questions += 1
        self._has_news = True

    def ctrl_z(self) -> None:
        self.suspensions += 1
        self._has_news = True

    def ready_fds(self) -> set[int]:
        return {self.fd} if self._has_news else set()

    def drain(self) -> None:
        self._has_news = False

    def take_suspension(self) -> bool:
        asked, self.suspensions = self.suspensions > 0, 0
        return asked

    def take_question(self) -> bool:
        asked, self.questions = self.questions > 0, 0
        return asked

    def suspend(self) -> None:
        self.suspended()


class Recorder:
    """An observer that records all events; of ticks, only their number.

    Attributes:
        events: (name of the method, what it was about).
    """

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.ticks = 0

    def of(self, kind: str) -> list[str]:
        return [text for name, text in self.events if name == kind]

    def began(self, item: Item, worker: int, at_s: float) -> None:
        self.events.append(("began", item.test.key))

    def ended(self, item: Item | None, record: TestRecord) -> None:
        self.events.append(("ended", record.key))

    def failed_once(self, item: Item, record: TestRecord) -> None:
        self.events.append(("failed_once", record.key))

    def done(self, item: Item) -> None:
        self.events.append(("done", item.test.key))

    def say(self, text: str) -> None:
        self.events.append(("say", text))

    def warn(self, text: str) -> None:
        self.events.append(("warn", text))

    def tick(self) -> None:
        self.ticks += 1

    def hide(self) -> None:
        self.events.append(("hide", ""))

    def show(self) -> None:
        self.events.append(("show", ""))

"""The outcomes of one rank: a closed set, each with its evidence.

A rank itself reports only `Passed`, `Skipped`, `Failed` or `Raised`; the parent determines the
others. Everything is plain text and numbers, so that an outcome always arrives, whatever the
exception behind it was made of.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

import msgspec

from harness.model.phase import Phase


@dataclass(frozen=True, slots=True)
class Place:
    """A line of somebody's code, and the function that it is in, which begins at `first_line`."""

    file: str
    line: int
    function: str
    first_line: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"


@dataclass(frozen=True, slots=True)
class SubTest:
    """What distinguishes one sub-test of a test, as `subTest(message, **params)` was told.

    Attributes:
        message: the message, as text; None if none was given.
        params: each parameter's name and `repr()`.
    """

    message: str | None
    params: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """As unittest prints it."""
        parts = [] if self.message is None else [f"[{self.message}]"]
        if self.params:
            parts.append("(" + ", ".join(f"{name}={value}" for name, value in self.params) + ")")
        return " ".join(parts) or "(<subtest>)"


@dataclass(frozen=True, slots=True)
class MissingName:
    """A name that a rank looked up in vain, for the parent to see whether it has it.

    Attributes:
        name: the attribute, or the global variable.
        owner: where it was looked up: "self", "class" or "module".
        owner_name: of the class (qualified) or the module; empty for "self".
    """

    name: str
    owner: str
    owner_name: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that went wrong in the body of a rank, as text.

    Attributes:
        type_name: the exception's type as a reader would write it, `ValueError` or `pkg.MyError`.
        message: what `str()` of the exception gave, or why it gave nothing.
        traceback: the formatted traceback, ready to print, ending in type and message.
        is_assertion: whether unittest calls this a failure rather than an error.
        where: the innermost line of the user's own code; None if no frame is.
        subtest: the sub-test that it happened in; None outside sub-tests.
        missing: the name that an AttributeError or a NameError is about, if it is one of the
            test's instance, class or module.
    """

    type_name: str
    message: str
    traceback: str
    is_assertion: bool
    where: Place | None = None
    subtest: SubTest | None = None
    missing: MissingName | None = None

    @property
    def headline(self) -> str:
        """Type and the first line of the message."""
        first = self.message.strip().splitlines()[:1]
        return f"{self.type_name}: {first[0]}" if first else self.type_name


class Passed(msgspec.Struct, frozen=True, tag=True):
    """The body ran to its end and reported that, and the process then exited with 0."""


class Skipped(msgspec.Struct, frozen=True, tag=True):
    """The body asked to be skipped.

    Attributes:
        reason: why.
        is_xfail: whether it did so by `pytest.xfail()`.
    """

    reason: str
    is_xfail: bool = False


class Failed(msgspec.Struct, frozen=True, tag=True):
    """Assertions failed, and nothing worse happened."""

    problems: tuple[Problem, ...]


class Raised(msgspec.Struct, frozen=True, tag=True):
    """At least one of the problems is not an assertion."""

    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Exited:
    """The process ended with an exit code nobody expects.

    Attributes:
        code: the exit code.
        after_body: whether the body had already passed, so that an exit handler or a destructor
            is to blame.
        where: for sys.exit() in the body, the line that called it.
    """

    code: int
    after_body: bool = False
    where: Place | None = None


@dataclass(frozen=True, slots=True)
class Killed:
    """The process was ended by a signal that the harness did not send."""

    signal: int
    after_body: bool = False

    @property
    def signal_name(self) -> str:
        try:
            return signal.Signals(self.signal).name
        except ValueError:
            return f"signal {self.signal}"


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The process still ran when its time limit expired.

    Attributes:
        phase: START, BODY or EXIT.
        limit_s: how long the phase was allowed to take, in seconds.
    """

    phase: Phase
    limit_s: float


@dataclass(frozen=True, slots=True)
class Deadlocked:
    """The process waited for ranks that could never come.

    Attributes:
        after_s: seconds from the start of the body until that was certain.
    """

    after_s: float


@dataclass(frozen=True, slots=True)
class Lost:
    """It is unknown how the process ended; `reason` says why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Sabotaged:
    """Killed or stopped by the harness at a collective, as the test requested.

    Attributes:
        deed: "killed" or "stopped".
    """

    deed: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Still running, no fault known, when the harness ended it because of another rank."""

    phase: Phase = Phase.BODY


Outcome = (
    Passed
    | Skipped
    | Failed
    | Raised
    | Exited
    | Killed
    | TimedOut
    | Deadlocked
    | Lost
    | Ended
    | Sabotaged
)

#: Outcomes that the test's own code can produce without its process being in danger.
ReportedOutcome = Passed | Skipped | Failed | Raised


def is_worse(outcome: ReportedOutcome, than: ReportedOutcome) -> bool:
    """Whether something has gone wrong that had not before."""
    return isinstance(than, Passed | Skipped) and isinstance(outcome, Failed | Raised)


def outcome_of_problems(problems: tuple[Problem, ...]) -> Failed | Raised:
    """What a body with these problems, at least one, adds up to."""
    return (Failed if all(p.is_assertion for p in problems) else Raised)(problems)

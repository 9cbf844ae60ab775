"""The outcomes of one rank: a closed set of types, each with its details.

The rank itself reports `Passed`, `Skipped`, `Failed` or `Raised`. The parent determines the others,
from the exit code or because it ended the rank. All details are text and numbers: an outcome must
arrive even if the exception behind it cannot be pickled.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

import msgspec

from harness.model.phase import Phase

# Which outcome a rank gets, and from where:
#
#   reported by the rank      Passed, Skipped, Failed, Raised
#   exit of the process       Exited (early, or with a code after its body), Killed, Lost, Skipped
#                             (by one of PyTorch's exit codes), Sabotaged("killed")
#   ended by the supervisor   TimedOut, Deadlocked, Ended, Sabotaged("stopped")
#
# `assert_never` at the end of a chain over `Outcome` makes mypy find the code that forgets one. The
# four types that a rank reports are msgspec structs with a tag: msgspec cannot tell apart the
# dataclasses of a union.


@dataclass(frozen=True, slots=True)
class Place:
    """A line of code, and the function that contains it, which begins at `first_line`."""

    file: str
    line: int
    function: str
    first_line: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"


@dataclass(frozen=True, slots=True)
class SubTest:
    """One sub-test, identified by the arguments of `subTest(message, **params)`.

    Attributes:
        message: the message, as text; None if there is none.
        params: the name and the `repr()` of each parameter.
    """

    message: str | None
    params: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """Return the text that unittest prints for the sub-test."""
        parts = [] if self.message is None else [f"[{self.message}]"]
        if self.params:
            parts.append("(" + ", ".join(f"{name}={value}" for name, value in self.params) + ")")
        return " ".join(parts) or "(<subtest>)"


@dataclass(frozen=True, slots=True)
class MissingName:
    """A name that a rank did not find.

    If the parent has it, the test has set it in the parent only, and a hint says so.

    Attributes:
        name: the attribute or the global variable.
        owner: where the rank looked: "self", "class" or "module".
        owner_name: the qualified name of the class, or the name of the module; empty for "self".
    """

    name: str
    owner: str
    owner_name: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """One exception in the body of a rank, as text.

    Attributes:
        type_name: the exception's type as users write it: `ValueError`, `pkg.MyError`.
        message: `str()` of the exception, or a note if that raised.
        traceback: the formatted traceback, with type and message at its end.
        is_assertion: whether unittest counts it as a failure, not as an error.
        where: the innermost line of the user's own code; None if the traceback has none.
        subtest: the sub-test in which it happened; None outside sub-tests.
        missing: the name that an AttributeError or NameError did not find, if it belongs to the
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
        """Return the type and the first line of the message."""
        first = self.message.strip().splitlines()[:1]
        return f"{self.type_name}: {first[0]}" if first else self.type_name


class Passed(msgspec.Struct, frozen=True, tag=True):
    """The body ran to its end and reported that it passed, and the process exited with 0."""


class Skipped(msgspec.Struct, frozen=True, tag=True):
    """The body skipped the test.

    Attributes:
        reason: the reason.
        is_xfail: whether it called `pytest.xfail()`.
    """

    reason: str
    is_xfail: bool = False


class Failed(msgspec.Struct, frozen=True, tag=True):
    """All problems are failed assertions."""

    problems: tuple[Problem, ...]


class Raised(msgspec.Struct, frozen=True, tag=True):
    """At least one problem is not a failed assertion."""

    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Exited:
    """The process exited before its body had reported, or with another code than 0 afterwards.

    Attributes:
        code: the exit code.
        after_body: whether the body had already passed; then an exit handler or a destructor has
            probably failed.
        where: the line that called `sys.exit()` in the body; None if none did.
    """

    code: int
    after_body: bool = False
    where: Place | None = None


@dataclass(frozen=True, slots=True)
class Killed:
    """A signal that the harness did not send killed the process."""

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
    """The rank was still in a phase when the time limit of the phase expired.

    Attributes:
        phase: START, BODY or EXIT.
        limit_s: the time limit, in seconds.
    """

    phase: Phase
    limit_s: float


@dataclass(frozen=True, slots=True)
class Deadlocked:
    """The rank waited for something that could no longer happen.

    Attributes:
        after_s: seconds from the start of the body until the harness was certain of that.
    """

    after_s: float


@dataclass(frozen=True, slots=True)
class Lost:
    """The harness cannot find out how the process ended; `reason` says why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Sabotaged:
    """The harness killed or stopped the rank at a collective, because the test requested it.

    Attributes:
        deed: "killed" (by `@kill_rank`) or "stopped" (by `@stop_rank`).
    """

    deed: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The harness ended the rank, which still ran, because of a fault in another rank."""

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

#: The outcomes that a rank reports itself.
ReportedOutcome = Passed | Skipped | Failed | Raised


def is_worse(outcome: ReportedOutcome, than: ReportedOutcome) -> bool:
    """Whether `outcome` is a failure and `than` is not, so that `outcome` must replace it."""
    return isinstance(than, Passed | Skipped) and isinstance(outcome, Failed | Raised)


def outcome_of_problems(problems: tuple[Problem, ...]) -> Failed | Raised:
    """Return the outcome of a body with these problems; there must be at least one."""
    return (Failed if all(p.is_assertion for p in problems) else Raised)(problems)

"""Define every message between a rank and its parent.

    parent                       rank
    starts it            ->      Ready, then the body runs
                         <-      Report: the outcome of the body
    MayLeave             ->      (only if the report says that the rank waits for it)
                         <-      Goodbye: it exits; or, if it stays,
                         <-      Waits, or WaitsForExample in a property test
    RunTest, RunExample  ->      the next body runs; Leave or NoMoreExamples ends this

Everything else may come at any time while the body runs. A message whose name ends in `Request` is
answered by the one whose name ends in `Answer`.
"""

from __future__ import annotations

import msgspec

from harness.model.communication import CommunicationRecord
from harness.model.evidence import Snapshot
from harness.model.example import Remarks
from harness.model.expectation import Expectation
from harness.model.outcome import Place, ReportedOutcome
from harness.model.phase import Phase
from harness.model.spec import LaunchSpec
from harness.model.timeline import CollectiveSpan
from harness.model.warning_data import IssuedWarning
from harness.ranks.channel import Message
from harness.ranks.typed_message import TypedMessage

# From a rank to its parent


class Ready(TypedMessage, frozen=True):
    """The rank is up: it has found its class, and the body is about to start.

    A reused rank sends it only before its first test.
    """


class PhaseBegun(TypedMessage, frozen=True):
    """The rank has entered a phase; sent only for timelines.

    Attributes:
        name: the phase.
        at_s: when, on the rank's clock.
    """

    name: Phase
    at_s: float


class Report(TypedMessage, frozen=True):
    """The outcome of the body; the first report counts, or the first bad one.

    Attributes:
        outcome: the outcome.
        waits: whether the rank waits for `MayLeave` before it closes its connections.
        snapshot: what the rank was doing; None if that is unknown or of no use.
        spans: its collectives over time; empty without timelines.
        communication: what it communicated; None without an audit, or if it has not passed.
    """

    outcome: ReportedOutcome
    waits: bool = False
    snapshot: Snapshot | None = None
    spans: tuple[CollectiveSpan, ...] = ()
    communication: CommunicationRecord | None = None


class Exits(TypedMessage, frozen=True):
    """The body has called `sys.exit()`, at `where`, and has reported nothing."""

    where: Place | None


class AtMeeting(TypedMessage, frozen=True):
    """The rank waits until all ranks have arrived; answered by `MeetingAnswer`.

    Attributes:
        label: the name of the meeting.
        value: this rank's text.
    """

    label: str
    value: str


class TerminalRequest(TypedMessage, frozen=True):
    """The rank wants the parent's terminal for a debugger, or gives it back."""

    wanted: bool


class TextProduced(TypedMessage, frozen=True):
    """In accept mode, the body has produced a text where it expects one."""

    expectation: Expectation


class WarningShown(TypedMessage, frozen=True):
    """The test has issued a warning that the filters show."""

    warning: IssuedWarning


class Sabotage(TypedMessage, frozen=True):
    """`@kill_rank` or `@stop_rank` is about to hit this rank; `deed` is "kill" or "stop"."""

    deed: str


class Waits(TypedMessage, frozen=True):
    """The test is over; the rank waits for another one.

    Attributes:
        left: what the test has left behind, as text.
        is_clean: whether another test may follow.
        positions: the number of collectives that it has called on each kept group.
        imported: the modules that the test has imported.
    """

    left: tuple[str, ...]
    is_clean: bool
    positions: dict[str, int]
    imported: tuple[str, ...]


class WaitsForExample(TypedMessage, frozen=True):
    """The rank waits for the next example; `remarks` belong to the last one."""

    positions: dict[str, int]
    remarks: Remarks


class Goodbye(TypedMessage, frozen=True):
    """The process group is down, exit handlers have run, and the process is about to exit."""

    imported: tuple[str, ...]


class SnapshotAnswer(TypedMessage, frozen=True):
    """What the rank is doing; `snapshot` is None if the rank could not take one."""

    round: int
    snapshot: Snapshot | None
    spans: tuple[CollectiveSpan, ...] = ()


class WhereAnswer(TypedMessage, frozen=True):
    """Where the rank is.

    Attributes:
        phase: the phase of the test.
        since_s: when the phase began, on the rank's clock.
        snapshot: what it is doing.
    """

    phase: Phase
    since_s: float
    snapshot: Snapshot


class ConnectingAnswer(TypedMessage, frozen=True):
    """Whether the rank is in a function that creates a process group; repeats the number."""

    number: int
    value: bool


# msgspec decodes a union by the tag `kind`, and mypy checks with it that every match over messages
# is complete. So a new message must be added here, and then mypy names the places to extend.
FromRank = (
    Ready
    | PhaseBegun
    | Report
    | Exits
    | AtMeeting
    | TerminalRequest
    | TextProduced
    | WarningShown
    | Sabotage
    | Waits
    | WaitsForExample
    | Goodbye
    | SnapshotAnswer
    | WhereAnswer
    | ConnectingAnswer
)


# From the parent to a rank


class RunTest(TypedMessage, frozen=True):
    """Run another test."""

    spec: LaunchSpec


class RunExample(TypedMessage, frozen=True):
    """Run the test's body with another example.

    Attributes:
        number: counts the examples of the test.
        file_name: the empty file that a FileStore may use.
        fresh_group: whether the ranks must not reuse the process group of the last example.
        wants_notes: whether Hypothesis will print notes, so that the rank must collect them.
        values: the arguments, pickled; None if they are in `values_file`.
        values_file: the file with the arguments, if they are too large for the channel.
    """

    number: int
    file_name: str
    fresh_group: bool
    wants_notes: bool
    values: bytes | None
    values_file: str = ""


class NoMoreExamples(TypedMessage, frozen=True):
    """End the property test; the rank then does what it does at the end of any test."""


class Leave(TypedMessage, frozen=True):
    """Exit; there is nothing more to run."""


class MayLeave(TypedMessage, frozen=True):
    """The rank may close its connections, since no peer still connects to it."""


class MeetingAnswer(TypedMessage, frozen=True):
    """The result of a meeting.

    Attributes:
        number: the number of the meeting in the rank's test, from 0.
        values: the texts of the ranks, in order; only one if all ranks have the same text.
        count: how often to repeat `values`.
        error: why the meeting failed; empty if it did not.
    """

    number: int
    values: tuple[str, ...] = ()
    count: int = 1
    error: str = ""

    @property
    def all_values(self) -> tuple[str, ...]:
        """Return the texts of all ranks, by rank."""
        return self.values * self.count


class TerminalAnswer(TypedMessage, frozen=True):
    """The rank has the terminal, unless `error` says why not."""

    error: str


class SnapshotRequest(TypedMessage, frozen=True):
    """Request a snapshot.

    Attributes:
        round: the number of the request, which the answer repeats.
        full: also say where each collective was issued.
        spans: also send the collectives over time.
    """

    round: int
    full: bool
    spans: bool = False


class WhereRequest(TypedMessage, frozen=True):
    """Request the rank's phase and position."""


class ConnectingRequest(TypedMessage, frozen=True):
    """Ask whether the rank is connecting a process group."""

    number: int


ToRank = (
    RunTest
    | RunExample
    | NoMoreExamples
    | Leave
    | MayLeave
    | MeetingAnswer
    | TerminalAnswer
    | SnapshotRequest
    | WhereRequest
    | ConnectingRequest
)


def from_rank(data: Message) -> FromRank:
    """Return the message of a rank. Raises ValueError if the data is not one."""
    return msgspec.convert(data, FromRank)


def to_rank(data: Message) -> ToRank:
    """Return the message of a parent. Raises ValueError if the data is not one."""
    return msgspec.convert(data, ToRank)

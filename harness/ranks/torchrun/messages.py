"""Define every message between torchrun's processes.

    joining process              rank 0
    JoinRequest          ->      after the handshake, which is no message
                         <-      Joined, OtherRun or Unusable
                         <-      Welcome, once all processes have joined; or Unusable

    agent                        rank 0
                         <-      StartRank
    RankStarted          ->
    RankSent             ->      any number of times, as ForRank in the other direction
    RankExited           ->      unless the rank stays: then RunNextTest or RunNextExample follows
                         <-      CloseWorld
                         <-      Leave, at the end of the run

An agent answers each `Asked` with an `Answered` of the same number. Everything else may come at any
time. Messages cross: one about a world that the agent has closed is normal and has no effect.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from harness.model.rank_report import Tail
from harness.model.spec import LaunchSpec
from harness.ranks.channel import Message, wrapped
from harness.ranks.leftovers import Leftover
from harness.ranks.messages import FromRank, NoMoreExamples, RunExample, ToRank
from harness.ranks.outside_view import Inspection, InspectionRequest
from harness.ranks.torchrun.process_changes import ProcessChanges
from harness.ranks.typed_message import TypedMessage

_Count = Annotated[int, Meta(ge=0, lt=1 << 62)]
_Number = Annotated[int, Meta(ge=1, lt=1 << 62)]
_Signal = Annotated[int, Meta(ge=1, le=64)]
# Longer than any time on any clock. NaN is outside of it, too.
_Seconds = Annotated[float, Meta(gt=-1e15, lt=1e15)]

# While a process joins: from it to rank 0


class JoinRequest(TypedMessage, frozen=True):
    """How a process describes itself: where it is, and what it runs.

    Attributes:
        rank, local_rank, group_rank: its place in torchrun's world; no group if unknown.
        host: the name of its host.
        system: equal for processes that share a clock and process ids.
        pid: its process.
        devices: how many devices (GPUs) it sees.
        visible: its CUDA_VISIBLE_DEVICES; empty if unset.
        identity: values that must be equal for all processes, by name; empty if unknown.
    """

    rank: _Count
    local_rank: _Count
    group_rank: _Count | None
    host: str
    system: str
    pid: _Count
    devices: _Count
    visible: str
    identity: dict[str, str]


# While a process joins: from rank 0


class OtherRun(TypedMessage, frozen=True):
    """This rank 0 belongs to another run of the same user."""


class Joined(TypedMessage, frozen=True):
    """The process belongs to the world, which is not complete yet."""


class Welcome(TypedMessage, frozen=True):
    """All processes have joined."""


class Unusable(TypedMessage, frozen=True):
    """The run cannot start.

    Attributes:
        text: why.
        host: rank 0's host, where rank 0 has printed the text.
    """

    text: str
    host: str


ToJoining = OtherRun | Joined | Welcome | Unusable


# From rank 0 to an agent


class RemoteTest(TypedMessage, frozen=True):
    """A test for a rank of another process.

    Attributes:
        spec: its launch spec. Each process fills in its own environment, folder and `sys.path`.
        changes: what the run has changed in these at rank 0.
    """

    spec: LaunchSpec
    changes: ProcessChanges


class StartRank(TypedMessage, frozen=True):
    """Start a rank of a new world."""

    world: _Number
    rank: _Count
    message: RemoteTest


class RunNextTest(TypedMessage, frozen=True):
    """Have the world's idle rank run another test."""

    world: _Number
    message: RemoteTest


class RunNextExample(TypedMessage, frozen=True):
    """Have the world's rank go on with the property test that it runs."""

    world: _Number
    message: RunExample | NoMoreExamples


class ForRank(TypedMessage, frozen=True):
    """Pass this message to the world's rank."""

    world: _Number
    message: ToRank


class SignalRank(TypedMessage, frozen=True):
    """Send a signal to the rank and its process group."""

    world: _Number
    signal: _Signal


class CloseWorld(TypedMessage, frozen=True):
    """End the world's rank if it runs, and all that it left behind; forget the world."""

    world: _Number


class Preload(TypedMessage, frozen=True):
    """Have the fork server import these modules, which ranks had to import themselves."""

    modules: tuple[str, ...]


class Leave(TypedMessage, frozen=True):
    """Exit with this code: the run is over."""

    code: Annotated[int, Meta(ge=0, le=255)]


class ClockQuestion(TypedMessage, frozen=True):
    """What time is it on your clock?"""


class InspectionQuestion(TypedMessage, frozen=True):
    """What does an inspection of the rank find?"""

    world: _Number
    request: InspectionRequest


class LogsQuestion(TypedMessage, frozen=True):
    """What has the rank written, at most so many lines or bytes of each stream?"""

    world: _Number
    lines: _Count
    bytes: _Count


class LeftoversQuestion(TypedMessage, frozen=True):
    """Which processes did the rank leave behind? The agent ends them."""

    world: _Number
    grace_s: _Seconds


Question = ClockQuestion | InspectionQuestion | LogsQuestion | LeftoversQuestion


class Asked(TypedMessage, frozen=True):
    """A question. The answer has the same number."""

    number: _Number
    question: Question


ToWorld = RunNextTest | RunNextExample | ForRank | SignalRank | CloseWorld
ToAgent = StartRank | ToWorld | Preload | Asked | Leave


# From an agent to rank 0


class RankStarted(TypedMessage, frozen=True):
    """The rank is a process now."""

    world: _Number
    pid: _Number


class RankSent(TypedMessage, frozen=True):
    """The rank has sent this message."""

    world: _Number
    message: FromRank


class RankUnreadable(TypedMessage, frozen=True):
    """The rank has sent something that is no message; `fault` describes it."""

    world: _Number
    fault: str


class RankExited(TypedMessage, frozen=True):
    """The rank's process has ended, or could not be started.

    Attributes:
        code: its exit code, negative for a signal; None if unknown.
        why: why the code is unknown; empty if it is known.
    """

    world: _Number
    code: Annotated[int, Meta(ge=-64, le=255)] | None
    why: str


class Ending(TypedMessage, frozen=True):
    """The agent has received this signal, and ends its ranks."""

    signal: _Signal


class ClockAnswer(TypedMessage, frozen=True):
    """The time on the agent's clock."""

    at_s: _Seconds


class InspectionAnswer(TypedMessage, frozen=True):
    """What the inspection has found."""

    inspection: Inspection


class StreamEnd(msgspec.Struct, frozen=True):
    """The end of one stream of a rank, as lines and as text."""

    tail: Tail = Tail()
    text: str = ""


class LogsAnswer(TypedMessage, frozen=True):
    """The ends of the rank's streams, by the name of the stream."""

    streams: dict[str, StreamEnd]


class LeftoversAnswer(TypedMessage, frozen=True):
    """The processes that the rank left behind."""

    found: tuple[Leftover, ...]


Answer = ClockAnswer | InspectionAnswer | LogsAnswer | LeftoversAnswer


class Answered(TypedMessage, frozen=True):
    """The answer to a question; None if the agent has closed the world."""

    number: _Number
    answer: Answer | None


FromAgent = RankStarted | RankSent | RankUnreadable | RankExited | Ending | Answered


# The codec. Each function raises ValueError if the data is not such a message.


def to_joining(data: Message) -> ToJoining:
    return msgspec.convert(data, ToJoining)


def to_agent(data: Message) -> ToAgent:
    return msgspec.convert(data, ToAgent)


def from_joining(data: Message) -> JoinRequest:
    return msgspec.convert(data, JoinRequest)


def from_agent(data: Message) -> FromAgent:
    return msgspec.convert(data, FromAgent)


def frame_around(message: bytes, kind: type[TypedMessage], **fields: int) -> bytes:
    """Return the frame of a message whose `message` is encoded already: once, for all ranks."""
    return wrapped(message, kind=kind.__name__, **fields)

"""What the runner and its workers say to each other: every message, typed.

    runner                       worker
    Discover             ->      (only the first one)
                         <-      Discovered, or Unusable
    RunTests             ->
                         <-      for each test: Started, an Ended for its record and for each of a
                                 fixture that failed, and Done; or, after DropTests, only Dropped
    Rest                 ->
                         <-      Rested
    Leave                ->
                         <-      Goodbye

Everything else may come at any time.
"""

from __future__ import annotations

import msgspec

from harness.ranks.channel import Message
from harness.ranks.typed_message import TypedMessage
from harness.runner.results import TestRecord
from harness.runner.selection.planned_test import Found, Place

# From a worker to the runner


class Discovered(TypedMessage, frozen=True):
    """The test modules are imported, and the tests selected."""

    found: Found


class Unusable(TypedMessage, frozen=True):
    """There is nothing to run, because what the user has named means nothing; `text` says why."""

    text: str


class Started(TypedMessage, frozen=True):
    """The next of the worker's tests begins.

    Attributes:
        at_s: when.
        printed: how much of the worker's output, on stdout and stderr, it has told of.
    """

    at_s: float
    printed: tuple[int, int]


class Ended(TypedMessage, frozen=True):
    """A test has ended, or a fixture has failed or skipped."""

    record: TestRecord


class Done(TypedMessage, frozen=True):
    """All that belongs to the test has been said.

    Attributes:
        kept_by: the key of the fixture that kept it from running; empty if it ran.
    """

    kept_by: str


class Dropped(TypedMessage, frozen=True):
    """The next of the worker's tests does not begin."""


class Rested(TypedMessage, frozen=True):
    """The worker holds no fixture."""


class Goodbye(TypedMessage, frozen=True):
    """Exit handlers have run, and the process is about to exit."""


class Learned(TypedMessage, frozen=True):
    """Ranks had to import these modules themselves."""

    modules: tuple[str, ...]


class Damaged(TypedMessage, frozen=True):
    """A test has closed a descriptor that the worker needs."""


class WarningShown(TypedMessage, frozen=True):
    """A test has warned of something; `text` is what Python would print."""

    text: str


class WhereAnswer(TypedMessage, frozen=True):
    """Where the test is that runs, in words."""

    text: str


FromWorker = (
    Discovered
    | Unusable
    | Started
    | Ended
    | Done
    | Dropped
    | Rested
    | Goodbye
    | Learned
    | Damaged
    | WarningShown
    | WhereAnswer
)


# From the runner to a worker


class Discover(TypedMessage, frozen=True):
    """Import the test modules and select the tests."""


class TestToRun(msgspec.Struct, frozen=True):
    """A test, and what the worker must know to run it.

    Attributes:
        place: where it is found.
        copy: which of the tests with its id it is, from 0.
        class_copy: which of the classes with its class's name is its class, from 0.
        devices: those that it may use.
    """

    place: Place
    copy: int
    class_copy: int
    devices: tuple[str, ...]


class RunTests(TypedMessage, frozen=True):
    """Run these tests, one after the other."""

    tests: tuple[TestToRun, ...]


class DropTests(TypedMessage, frozen=True):
    """Begin none of the tests that have not begun."""


class Rest(TypedMessage, frozen=True):
    """Take down the fixtures that other tests might have used."""


class Leave(TypedMessage, frozen=True):
    """Take down the fixtures and exit."""


class WhereRequest(TypedMessage, frozen=True):
    """Say where the test is that runs."""


#: What a worker does one after the other; it hears everything else at once.
Order = Discover | RunTests | Rest
ToWorker = Order | Leave | DropTests | WhereRequest


def from_worker(data: Message) -> FromWorker:
    """Return the message of a worker. Raises ValueError if the data is none."""
    return msgspec.convert(data, FromWorker)


def to_worker(data: Message) -> ToWorker:
    """Return the message of the runner. Raises ValueError if the data is none."""
    return msgspec.convert(data, ToWorker)

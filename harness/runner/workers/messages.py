"""The messages between the runner and its workers, each a typed class.

    runner                       worker
    Discover             ->      (only to the first worker)
                         <-      Discovered, or Unusable
    RunTests             ->
                         <-      for each test: Started; Ended for its record, and for the record of
                                 each fixture that failed; Done. After CancelTests: Canceled
    TearDown             ->
                         <-      TornDown
    Leave                ->
                         <-      Goodbye

A worker processes these one after the other. The other messages may be sent at any time.
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
    """A name on the command line matches no test; `text` says which."""

    text: str


class Started(TypedMessage, frozen=True):
    """The worker starts the next of its tests.

    Attributes:
        at_s: the time, by `now()`.
        printed: how many bytes of the worker's stdout and stderr earlier records contain.
    """

    at_s: float
    printed: tuple[int, int]


class Ended(TypedMessage, frozen=True):
    """The record of a test that ended, or of a fixture that failed or skipped."""

    record: TestRecord


class Done(TypedMessage, frozen=True):
    """The worker has sent everything about the test.

    Attributes:
        blocked_by: the key of the fixture whose failure kept it from running; empty if it ran.
    """

    blocked_by: str


class Canceled(TypedMessage, frozen=True):
    """The worker does not start the next of its tests, because of CancelTests."""


class TornDown(TypedMessage, frozen=True):
    """The worker has no fixtures set up."""


class Goodbye(TypedMessage, frozen=True):
    """Exit handlers have run, and the process is about to exit."""


class Imported(TypedMessage, frozen=True):
    """Ranks had to import these modules, because the fork server had not."""

    modules: tuple[str, ...]


class Damaged(TypedMessage, frozen=True):
    """A test has closed a descriptor that the worker needs."""


class WarningShown(TypedMessage, frozen=True):
    """A test issued a warning; `text` is what Python would print."""

    text: str


class WhereAnswer(TypedMessage, frozen=True):
    """The answer to WhereRequest: where the running test and its ranks are, as text."""

    text: str


FromWorker = (
    Discovered
    | Unusable
    | Started
    | Ended
    | Done
    | Canceled
    | TornDown
    | Goodbye
    | Imported
    | Damaged
    | WarningShown
    | WhereAnswer
)


# From the runner to a worker


class Discover(TypedMessage, frozen=True):
    """Import the test modules and select the tests."""


class TestToRun(msgspec.Struct, frozen=True):
    """A test, and what the worker needs to run it.

    Attributes:
        place: identifies the test in any process.
        copy: its number among the tests with its id, from 0.
        class_copy: the number of its class among the classes with the same name, from 0.
        devices: the devices that it may use.
    """

    place: Place
    copy: int
    class_copy: int
    devices: tuple[str, ...]


class RunTests(TypedMessage, frozen=True):
    """Run these tests, in this order."""

    tests: tuple[TestToRun, ...]


class CancelTests(TypedMessage, frozen=True):
    """Do not start the tests that have not started."""


class TearDown(TypedMessage, frozen=True):
    """Tear down the fixtures of the last test's class and module."""


class Leave(TypedMessage, frozen=True):
    """Tear down the fixtures and exit."""


class WhereRequest(TypedMessage, frozen=True):
    """Report where the running test and its ranks are."""


#: A worker queues these; it processes all other messages when they arrive, while a test runs.
Order = Discover | RunTests | TearDown
ToWorker = Order | Leave | CancelTests | WhereRequest


def from_worker(data: Message) -> FromWorker:
    """Return a worker's message. Raises ValueError if the data is not a valid message."""
    return msgspec.convert(data, FromWorker)


def to_worker(data: Message) -> ToWorker:
    """Return the runner's message. Raises ValueError if the data is not a valid message."""
    return msgspec.convert(data, ToWorker)

"""Every exception that the harness raises, and every category of warnings that it issues.

The verdict of a rank test is one of the `Ranks…Error` classes. They all derive from `RuntimeError`,
which PyTorch's harness raises, so code that catches it works here, too. Where an assertion of the
test failed, it is also an `AssertionError`, so that unittest reports a failure, not an error.
"""

from __future__ import annotations


class HarnessError(Exception):
    """Base of everything the harness raises on its own account."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls.__module__ = "harness"  # where users import it from; tracebacks print it


class UsageError(HarnessError):
    """A command line that cannot be carried out. Raised by the runner; it exits with 2."""


class TorchMissingError(HarnessError, ImportError):
    """torch is missing or too old. Raised by importing `harness.cases`; install what it says."""


class HypothesisMissingError(HarnessError, ImportError):
    """Strategies or property tests are asked for, and hypothesis is not installed."""


class WorldSizeError(HarnessError, ValueError):
    """A world size that is not a positive integer. Raised before any process exists."""


class HookSignatureError(HarnessError, TypeError):
    """A subclass overrides a hook with parameters that the harness cannot call it with."""


class FolderError(HarnessError, RuntimeError):
    """The folder for a test's files could not be made, which is raised before any process exists.

    Also if the harness is to remove a folder that is not its own: report that as a bug.
    """


class StartError(HarnessError, RuntimeError):
    """Ranks could not be started at all. The message says which step failed and why."""


class SettingError(HarnessError, ValueError):
    """A setting (environment variable, option, attribute) has a value that it cannot have."""


class RanksFailedError(HarnessError, AssertionError, RuntimeError):
    """An assertion of the test failed on at least one rank, and no rank did anything worse."""


class RanksError(HarnessError, RuntimeError):
    """Base of the verdicts that are errors rather than failed assertions."""


class RanksRaisedError(RanksError):
    """The test raised something other than an assertion on at least one rank."""


class RanksDiedError(RanksError):
    """A rank exited, was killed by a signal or was lost before it had said that it was done."""


class RanksTimedOutError(RanksError):
    """The deadline of the test passed while at least one rank was still at work."""


class RanksDeadlockedError(RanksTimedOutError):
    """Ranks waited for each other, or for ranks that had finished, and none could go on."""


class RanksDisagreeError(RanksError):
    """The ranks ended differently in a way that no test means, such as a skip on one rank alone."""


class MismatchedCollectivesError(RanksError):
    """Thread ranks called different collectives on a group. Raised in the rank that came later."""


class BodyNotRunError(HarnessError, TypeError):
    """A test, or its set-up, returned a coroutine or a generator, so that its body did not run."""


class ProcessLeakError(RanksError):
    """A test passed but left a process running, and HARNESS_LEAKS=error is set."""


class StateLeakError(RanksError):
    """A test left ranks that stay other than it found them, and HARNESS_LEAKS=error is set."""


class PeerLeftError(RanksError):
    """Ranks were to meet, but one had ended its test or came elsewhere. Raised in the others."""


class ChaosError(RanksError):
    """What was to be done to a rank at one of its collectives was not. Raised in that rank."""


class PropertyError(HarnessError, RuntimeError):
    """A test under Hypothesis's `@given` that ranks cannot run. The message says why."""


class ExampleValueError(PropertyError, TypeError):
    """A value that Hypothesis has drawn cannot be given to ranks. Raised before they see it."""


class FlakyExampleError(RanksError):
    """An example of a property test failed, and did not fail when it was run again."""


class WorldExitWarning(UserWarning):
    """Ranks that stayed for several tests did not end as they should, or left something running."""


class ThreadLeakWarning(UserWarning):
    """A thread rank could not be ended and still runs."""


class StateLeakWarning(UserWarning):
    """A test has left its ranks other than it found them, so they do not stay for another test."""


class ProcessLeakWarning(UserWarning):
    """A test has passed, but a process that it started was still running."""


class RanksSpawnedWarning(UserWarning):
    """Ranks are started as fresh interpreters, seconds each, because forking is not safe."""

"""Every exception that the harness raises, and every category of warnings that it issues.

The verdict of a rank test is one of the `Ranks…Error` classes. They all derive from `RuntimeError`,
which PyTorch's harness raises, so code that catches it works here, too. Where an assertion of the
test failed, it is also an `AssertionError`, so that unittest reports a failure, not an error.
"""

from __future__ import annotations

# The classes, and what unittest makes of them:
#
#   HarnessError
#     RanksFailedError        AssertionError   FAIL    the verdicts of rank tests
#     RanksError              RuntimeError     ERROR
#       RanksRaisedError, RanksDiedError, RanksTimedOutError, RanksDeadlockedError,
#       RanksDisagreeError, MismatchedCollectivesError, PeerLeftError, ChaosError,
#       ProcessLeakError, StateLeakError, FlakyExampleError
#     all others              of the type that Python would raise (ValueError, TypeError, …)
#
# Most have a second base class, which users may catch without knowing the harness. The exceptions
# of the ranks arrive as text, so the message has everything that is known.


class HarnessError(Exception):
    """Base class of all exceptions that the harness raises."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls.__module__ = "harness"  # users import it from there, so tracebacks name that


class UsageError(HarnessError):
    """The command line is not valid. The runner prints the message and exits with 2."""


class TorchMissingError(HarnessError, ImportError):
    """torch is not installed, or too old. Raised on import; install what the message says."""


class HypothesisMissingError(HarnessError, ImportError):
    """A test uses strategies or property tests, and hypothesis is not installed."""


class WorldSizeError(HarnessError, ValueError):
    """The world size is not a positive integer. Raised before a rank starts."""


class HookSignatureError(HarnessError, TypeError):
    """A subclass overrides a hook with parameters that the harness cannot pass."""


class FolderError(HarnessError, RuntimeError):
    """A folder for the files of a test cannot be made. Raised before a rank starts.

    Also raised if the harness would remove a folder that is not its own: please report that bug.
    """


class StartError(HarnessError, RuntimeError):
    """The ranks could not start. The message says which step failed, and why."""


class SettingError(HarnessError, ValueError):
    """A setting (environment variable, option, class attribute) has a value that is not valid."""


class RanksFailedError(HarnessError, AssertionError, RuntimeError):
    """An assertion of the test failed on at least one rank, and nothing worse happened."""


class RanksError(HarnessError, RuntimeError):
    """Base class of the verdicts that are errors, not failed assertions."""


class RanksRaisedError(RanksError):
    """At least one rank raised an exception other than an AssertionError."""


class RanksDiedError(RanksError):
    """A rank exited early, was killed by a signal, or was lost."""


class RanksTimedOutError(RanksError):
    """At least one rank did not start, finish or exit within its time limit."""


class RanksDeadlockedError(RanksTimedOutError):
    """All running ranks waited for each other, or for ranks that had finished."""


class RanksDisagreeError(RanksError):
    """The ranks ended in different ways that do not make a result: some skipped, some passed."""


class CommunicationError(HarnessError, AssertionError, RuntimeError):
    """Every rank passed, but the ranks' communication does not fit together (docs/audit.md)."""


class MismatchedCollectivesError(RanksError):
    """Thread ranks called different collectives on a group. Raised in the rank that called last."""


class BodyNotRunError(HarnessError, TypeError):
    """A test or its set-up returned a coroutine or a generator, so its body did not run."""


class ProcessLeakError(RanksError):
    """A test passed but left a process running, and HARNESS_LEAKS=error is set."""


class StateLeakError(RanksError):
    """A test changed the state of ranks that later tests share, and HARNESS_LEAKS=error is set."""


class PeerLeftError(RanksError):
    """A rank ended its test, or called something else, where all ranks meet.

    Raised in the ranks that wait for it in `assertRanksAgree` or `init_process_group`.
    """


class ChaosError(RanksError):
    """A rank never reached the collective at which the test would kill, stop or delay it.

    Raised in that rank.
    """


class PropertyError(HarnessError, RuntimeError):
    """Ranks cannot run this test under Hypothesis's `@given`. The message says why."""


class ExampleValueError(PropertyError, TypeError):
    """A value that Hypothesis has drawn cannot be sent to the ranks. Raised before they start."""


class FlakyExampleError(RanksError):
    """An example of a property test failed, and passed when Hypothesis ran it again."""


class CommunicationWarning(UserWarning):
    """Every rank passed, but the ranks' communication does not fit together (docs/audit.md)."""


class WorldExitWarning(UserWarning):
    """Reused ranks did not exit with 0, or left processes running."""


class ThreadLeakWarning(UserWarning):
    """A thread rank could not be ended and still runs."""


class StateLeakWarning(UserWarning):
    """A test has changed the state of its ranks, so no other test reuses them."""


class ProcessLeakWarning(UserWarning):
    """A test has passed, but a process that it started is still running."""


class RanksSpawnedWarning(UserWarning):
    """Each rank starts a new interpreter, which takes seconds, because a fork is not safe."""

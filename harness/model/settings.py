"""Define every setting: its environment variable, its default, and its sentence in the manual.

An option of the command line sets the variable, so that ranks and workers, which inherit the
environment, have the same value as their parent. Each use reads the variable again: a value read at
import would miss what the command line, or a test, sets later.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from harness.model.communication import AUDIT_LEVELS, FULL
from harness.model.errors import SettingError
from harness.model.spec import ISOLATIONS, PROCESS

T = TypeVar("T")

#: The kernel's poll() takes its timeout as milliseconds in a C int, which is at most 24 days. This
#: is 11 days.
MAX_SECONDS = 1_000_000
#: A higher number is a typing error: nobody has so many tests, ranks or repetitions.
MAX_COUNT = 1_000_000
# Messages show at most so many characters of a value that is not valid.
_MAX_QUOTED = 100


@dataclass(frozen=True)
class Setting(Generic[T]):
    """One environment variable, what it means, and how to read it.

    Attributes:
        env: the variable's name.
        default: the value when the variable is unset or empty.
        parse: converts text to the value; raises ValueError with the rule that the text breaks.
        doc: what the setting does, for the manual.
        old_env: a former name of the variable, which still works; empty if there is none.
    """

    env: str
    default: T
    parse: Callable[[str], T]
    doc: str
    old_env: str = ""

    def value(self, environ: Mapping[str, str] | None = None) -> T:
        """Return the current value.

        Args:
            environ: the environment to read; by default that of this process.

        Raises:
            SettingError: with the variable, its text and the rule that it breaks.
        """
        environ = os.environ if environ is None else environ
        name = self._name_in(environ)
        if not name:
            return self.default
        try:
            return self.parse(environ[name])
        except ValueError as error:
            raise SettingError(f"{name}={quoted(environ[name])}: {error}") from None

    def is_set(self) -> bool:
        return bool(self._name_in(os.environ))

    def _name_in(self, environ: Mapping[str, str]) -> str:
        """Return the name under which an environment has a value; empty if it has none."""
        return next((name for name in (self.env, self.old_env) if environ.get(name)), "")

    def set(self, value: T) -> None:
        """Set the value for this process and all processes that it starts."""
        os.environ[self.env] = _text_of(value)


def _text_of(value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if value == frozenset(TUNINGS):
        return "all"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # PyTorch's helpers read their timeout with int()
    if isinstance(value, frozenset):
        return ",".join(sorted(value)) or "none"
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    return str(value)


def quoted(text: str) -> str:
    """Return a user's text for a message: quoted, on one line, and shortened."""
    return repr(text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}…")


def seconds(text: str) -> float:
    """Convert text to a positive number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= MAX_SECONDS:
        raise ValueError(f"must be a positive number of seconds, at most {MAX_SECONDS}")
    return value


def seconds_or_zero(text: str) -> float:
    """Convert text to a number of seconds, or 0."""
    return 0.0 if text == "0" else seconds(text)


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return a parser for whole numbers from `low` to `high`."""

    def parse(text: str) -> int:
        # int() refuses thousands of digits with an error of its own (CPython 3.11), so check the
        # length first; no limit has more than 20 digits.
        number = int(text) if re.fullmatch(r"[+-]?[0-9]{1,20}", text) else None
        if number is None or not low <= number <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return number

    return parse


#: A number of tests, ranks, failures or repetitions.
positive_number = whole_number(1, MAX_COUNT)
#: The same, or 0.
natural_number = whole_number(0, MAX_COUNT)
#: The seeds that torch.manual_seed() accepts.
seed_number = whole_number(-(2**63), 2**64 - 1)


def switch(text: str) -> bool:
    """Convert 1, true, yes, on to True, and 0, false, no, off to False."""
    lowered = text.lower()
    if lowered in {"1", "true", "yes", "on"}:
        return True
    if lowered in {"0", "false", "no", "off"}:
        return False
    raise ValueError("must be 1 or 0")


def names(text: str) -> tuple[str, ...]:
    """Convert comma-separated names to a tuple."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def some_of(*choices: str) -> Callable[[str], frozenset[str]]:
    """Return a parser for `all`, `none`, or some of the choices, separated by commas."""

    def parse(text: str) -> frozenset[str]:
        chosen = {"all": choices, "none": ()}.get(text, names(text))
        unknown = sorted(set(chosen).difference(choices))
        if unknown or not (chosen or text == "none"):
            raise ValueError(f"must be all, none, or some of {', '.join(choices)}")
        return frozenset(chosen)

    return parse


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a parser for one of the choices."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return parse


# Windows has no fork, and forking after the system's frameworks have started is unsafe on macOS.
START_METHODS = ("forkserver", "spawn") if sys.platform == "linux" else ("spawn", "forkserver")

START_METHOD = Setting(
    "HARNESS_START_METHOD",
    START_METHODS[0],
    one_of(*START_METHODS),
    "How to start ranks: `forkserver` (fork a process that has imported everything) or `spawn` "
    "(start a new interpreter for each rank).",
)
SEED = Setting(
    "HARNESS_SEED",
    1234,
    seed_number,
    "Seed of the generators of Python, NumPy and torch. It is set before every test, in the "
    "parent and in every rank.",
)
TIMEOUT_S = Setting(
    "DISTRIBUTED_TESTS_DEFAULT_TIMEOUT",
    300.0,
    seconds,
    "Time limit for the body of a rank test, in seconds. Starting the ranks does not count.",
)
# Generous: a spawned rank imports torch, which can take a minute from a network file system. Nobody
# waits for it in vain, since a rank that dies while it starts is noticed at once.
START_TIMEOUT_S = Setting(
    "HARNESS_START_TIMEOUT",
    180.0,
    seconds,
    "Time limit for starting the ranks of a test, in seconds. Imports count.",
)
USE_TORCHRUN = Setting(
    "HARNESS_USE_TORCHRUN",
    True,
    switch,
    "Run rank tests on the processes that torchrun or srun started (`docs/scaling.md`). 0 starts "
    "ranks as usual. The runner sets it to 0 for its child processes.",
    old_env="HARNESS_GIVEN_WORLD",
)
ASSEMBLY_TIMEOUT_S = Setting(
    "HARNESS_ASSEMBLY_TIMEOUT",
    300.0,
    seconds,
    "Time limit for all processes that torchrun started to find each other, in seconds.",
)
WORLD_SECRET = Setting(
    "HARNESS_WORLD_SECRET",
    "",
    str,
    "Secret that all processes of torchrun's world share, at least 16 characters. Without it, "
    "they use a file in your cache folder (`docs/scaling.md`).",
)
INSECURE_WORLD = Setting(
    "HARNESS_INSECURE_WORLD",
    False,
    switch,
    "Let the processes that torchrun started join without a secret. Anybody who can connect to "
    "rank 0's host can then run code as you. `--insecure-world` sets it.",
)
# TCP keepalive: the kernel sends and answers the probes, so a busy process does not miss one.
LINK_TIMEOUT_S = Setting(
    "HARNESS_LINK_TIMEOUT",
    20.0,
    seconds,
    "Seconds without a sign of life before another host counts as lost. A busy or stopped process "
    "does not: the kernel sends these signs.",
)
EXIT_TIMEOUT_S = Setting(
    "HARNESS_EXIT_TIMEOUT",
    10.0,
    seconds,
    "Time limit for the ranks to exit after all of them have finished the test, in seconds.",
)
PROPERTY_TIMEOUT_S = Setting(
    "HARNESS_PROPERTY_TIMEOUT",
    600.0,
    seconds,
    "Time limit for all examples of a property test together, in seconds. Each example also has "
    "the time limit of a test.",
)
SHRINK_TIMEOUT_S = Setting(
    "HARNESS_SHRINK_TIMEOUT",
    60.0,
    seconds,
    "Time limit for shrinking a failing example, in seconds.",
)
# One second is long compared with the time for which a message is in flight. Shorter is possible,
# but each look at the ranks costs them a millisecond.
DEADLOCK_S = Setting(
    "HARNESS_DEADLOCK_AFTER",
    1.0,
    seconds_or_zero,
    "Seconds that all ranks of a test must be stuck, each in a call that can no longer return, "
    "before the test ends as a deadlock. 0 leaves deadlocks to the timeout.",
)
AUDIT = Setting(
    "HARNESS_AUDIT",
    FULL,
    one_of(*AUDIT_LEVELS),
    "How closely to check that the ranks' communication fits together: `off`; `record`, only what "
    "torch's flight recorder knows; or `full` (`docs/audit.md`).",
)
AUDIT_FINDS = Setting(
    "HARNESS_AUDIT_FINDS",
    "",
    one_of("error", "warn"),
    "How to report a test whose ranks pass but communicate wrongly: `error` or `warn`. Unset, it "
    "is `error`, and `warn` for PyTorch's own test files (`--torch-checkout`).",
)
LEAKS = Setting(
    "HARNESS_LEAKS",
    "warn",
    one_of("warn", "error"),
    "How to report a test that passes but leaves a process behind: `warn` or `error`. With "
    "isolation `group` and `none`, threads, files and changed settings count too.",
)
ISOLATION = Setting(
    "HARNESS_ISOLATION",
    PROCESS,
    one_of(*ISOLATIONS),
    "What a test shares with the one before it: nothing (`process`), the processes (`group`), or "
    "also their process group (`none`, the default of `MultiProcContinuousTest`).",
)
# Small leaks that no check sees (memory, descriptors of torch) add up in ranks that are reused.
WORLD_TESTS = Setting(
    "HARNESS_WORLD_TESTS",
    200,
    positive_number,
    "Number of tests after which isolation `group` and `none` replace the ranks.",
)
#: Optimizations in which the harness differs from a plain launch of ranks. No test should notice
#: them; each can be turned off, to find out whether a test does.
SCHEDULING, EXIT, TEARDOWN, STORE, KEPT_GROUP, WAIT_FOR_PEERS = TUNINGS = (
    "scheduling",
    "exit",
    "teardown",
    "store",
    "kept-group",
    "wait-for-peers",
)
TUNING: Setting[frozenset[str]] = Setting(
    "HARNESS_TUNING",
    frozenset(TUNINGS),
    some_of(*TUNINGS),
    "Optimizations to enable, separated by commas, or `all` or `none`. `docs/isolation.md` "
    "describes each of them.",
)
PRELOAD: Setting[tuple[str, ...]] = Setting(
    "HARNESS_PRELOAD",
    (),
    names,
    "Modules, separated by commas, that the fork server imports in addition to torch and the test "
    "modules.",
)
DROPIN = Setting(
    "HARNESS_DROPIN",
    False,
    switch,
    "Run tests that were written for PyTorch's harness on ranks of this harness. "
    "`--torch-checkout` sets it.",
)
FULL_TRACEBACKS = Setting(
    "HARNESS_FULL_TRACEBACKS",
    False,
    switch,
    "Show all frames: those of unittest and the harness in tracebacks, and those of torch in "
    "stacks.",
)
LIVE_OUTPUT = Setting(
    "HARNESS_LIVE_OUTPUT",
    False,
    switch,
    "Show the output of ranks while they run, each line with its rank. Failures still show it too.",
)
KEEP_FOLDERS = Setting(
    "HARNESS_KEEP_FOLDERS",
    False,
    switch,
    "Keep the temp folder (logs, stores) of every test that did not pass, and print its path.",
)
TIMELINE = Setting(
    "HARNESS_TIMELINE",
    False,
    switch,
    "Record the phases and the collectives of every rank. Reports that show timelines set it.",
)


def audit_only_warns() -> bool:
    """Return whether faults that the audit finds are warnings, and not failures."""
    finds = AUDIT_FINDS.value() or ("warn" if DROPIN.value() else "error")
    return finds == "warn"


def row_for_the_manual(setting: Setting[Any]) -> str:
    """Return the setting's row of the table in docs/settings.md."""
    default = _text_of(setting.default)
    return f"| `{setting.env}` | {f'`{default}`' if default else 'none'} | {setting.doc} |"


ALL: tuple[Setting[object], ...] = tuple(
    value for value in globals().values() if isinstance(value, Setting)
)


def check_all() -> None:
    """Read every setting once, before a test runs. Raises SettingError if one is not valid."""
    for setting in ALL:
        setting.value()

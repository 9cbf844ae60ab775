"""Durations and outcomes of past runs, for the next run to use and to add to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from harness.model.errors import UsageError
from harness.runner.history import file, tables
from harness.runner.history.code_version import code_version
from harness.runner.history.file import BROKEN, Fault, fault_of
from harness.runner.history.trends import Trends, trends_of
from harness.runner.results import RunResult

if TYPE_CHECKING:
    from sqlite3 import Connection

T = TypeVar("T")


class History:
    """The past runs of a project.

    A run must not fail because of its history, so no method raises. A problem is in `fault` and
    `problem`, and queries then return empty results.

    Attributes:
        path: the file.
        fault: the problem with the file; None if there is none.
        problem: the fault as a line for the user; check it again after `record()`.
    """

    def __init__(self, path: Path, fault: Fault | None = None) -> None:
        self.path = path
        self.fault: Fault | None = None
        self.problem = ""
        self._is_readable = self._is_writable = True
        if fault is not None:
            self._give_up(fault)
        else:
            self._ask(lambda connection: None, None)
            self._see_whether_writable()

    def __repr__(self) -> str:
        return f"History({str(self.path)!r}, problem={self.problem!r})"

    def durations(self) -> dict[str, float]:
        """Return test to expected seconds: the median of the test's last runs."""
        return self._ask(tables.durations, {})

    def shard_durations(self) -> dict[str, float]:
        """Return the same for shards, which must all see equal durations: see `tables`."""
        return self._ask(tables.shard_durations, {})

    def last_failed(self) -> list[str]:
        """Return the tests that failed the last time they ran, in the order of their first runs."""
        return self._ask(tables.last_failed, [])

    def trends(self, limit: int = 10) -> Trends:
        """Return the slowest, flakiest and newly failing tests, at most `limit` of each."""
        return trends_of(self._ask(tables.past, {}), limit)

    def record(self, run: RunResult, code: str | None = None) -> None:
        """Add a run, without the tests that were skipped or interrupted.

        Args:
            run: the results of the run.
            code: a digest of the code; by default from git.
        """
        rows = tables.rows_of(run)
        if not rows or not self._is_writable:
            return
        code = code_version() if code is None else code
        try:
            with file.writing(self.path) as connection:
                tables.add(connection, run, code, rows)
                tables.prune(connection, rows)
        except BROKEN as error:
            self._give_up(fault_of(error))

    def _ask(self, question: Callable[[Connection], T], nothing: T) -> T:
        """Run a query; return `nothing` if there is no usable history."""
        if not self._is_readable:
            return nothing
        try:
            with file.reading(self.path) as connection:
                return nothing if connection is None else question(connection)
        except BROKEN as error:
            fault = fault_of(error)
            self._give_up(fault, "this run goes without it" if fault.passes else "")
            return nothing

    def _give_up(self, fault: Fault, consequence: str = "") -> None:
        """Set the problem and stop reading; still try to write later if the fault is temporary."""
        self.fault = fault
        consequence = consequence or "this run is not recorded"
        self.problem = f"history: {self.path} {fault.what}; {consequence}{fault.advice}"
        self._is_readable = False
        self._is_writable = fault.passes

    def _see_whether_writable(self) -> None:
        """Report a read-only file at once, but keep reading it."""
        if self.fault is None and not file.is_writable(self.path):
            self._give_up(file.READ_ONLY)
            self._is_readable = True


def check_history(path: str) -> None:
    """Check the path of --history before the run. A damaged file is no error: the run warns.

    Raises:
        UsageError: if it is a folder, or not a regular file.
    """
    try:
        file.check(Path(path))
    except file.FaultError as error:
        raise UsageError(f"--history: {path} {error.fault.what}{error.fault.advice}") from None
    except (OSError, ValueError):
        return  # the run goes without it, and says so


def open_history(path: str | None) -> History:
    """Return the history in the file; by default the project's file in the user's cache.

    Never raises: a history that cannot be used is empty, and `problem` has the reason.
    """
    try:
        found = Path(path).absolute() if path else file.default_path()
    except (OSError, RuntimeError) as error:  # the current folder is gone, or nobody has a home
        return History(Path("the user's cache"), fault_of(error))
    return History(found, file.fault_of_python())

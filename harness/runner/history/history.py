"""Durations and outcomes of past runs: what a run learns from those before it and adds itself."""

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
    """The past runs of a project. Nothing here raises; what does not work is told in `problem`.

    Attributes:
        path: the file.
        fault: what is wrong with it; None if nothing is.
        problem: the same as a line for the user. Look again after `record()`, which may find more.
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
        """By test, the seconds it is expected to take: the median of the last runs it ran in."""
        return self._ask(tables.durations, {})

    def shard_durations(self) -> dict[str, float]:
        """The same, as every shard of a plan sees it, whichever have been run already."""
        return self._ask(tables.shard_durations, {})

    def last_failed(self) -> list[str]:
        """The tests that failed the last time they ran, in the order in which they first ran."""
        return self._ask(tables.last_failed, [])

    def trends(self, limit: int = 10) -> Trends:
        """The tests that stand out, at most `limit` of each kind."""
        return trends_of(self._ask(tables.past, {}), limit)

    def record(self, run: RunResult, code: str | None = None) -> None:
        """Add a run. Tests that were skipped or interrupted have not run and are left out.

        Args:
            run: what it found out.
            code: a name for the state of the code; by default what git says of it.
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
        """The answer, or `nothing` where there is no history."""
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
        """Tell the user and ask no more; a fault that passes may have done so by the end."""
        self.fault = fault
        consequence = consequence or "this run is not recorded"
        self.problem = f"history: {self.path} {fault.what}; {consequence}{fault.advice}"
        self._is_readable = False
        self._is_writable = fault.passes

    def _see_whether_writable(self) -> None:
        """A file that can only be read is read; that it is not written to is told at once."""
        if self.fault is None and not file.is_writable(self.path):
            self._give_up(file.READ_ONLY)
            self._is_readable = True


def check_history(path: str) -> None:
    """Refuse what the user names with --history and cannot be a history. A damaged file can.

    Raises:
        UsageError: if it is a folder, or nothing that a run could write to.
    """
    try:
        file.check(Path(path))
    except file.FaultError as error:
        raise UsageError(f"--history: {path} {error.fault.what}{error.fault.advice}") from None
    except (OSError, ValueError):
        return  # the run goes without it, and says so


def open_history(path: str | None) -> History:
    """The history in the file, or in the project's own file in the user's cache.

    Never raises: a history that cannot be used is empty and says why in `problem`.
    """
    try:
        found = Path(path).absolute() if path else file.default_path()
    except (OSError, RuntimeError) as error:  # the current folder is gone, or nobody has a home
        return History(Path("the user's cache"), fault_of(error))
    return History(found, file.fault_of_python())

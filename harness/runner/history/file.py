"""The history file: an SQLite database, opened for each query and closed after it.

It uses SQLite's rollback journal. A write-ahead log needs shared memory, which network file systems
lack, and would gain nothing for one short transaction per run. No connection stays open between
queries, so ranks forked in between inherit no lock.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from harness.runner.history.tables import APPLICATION, SCHEMA, TABLES

try:
    import sqlite3
except ImportError:  # a Python that was built without it, as on some clusters
    sqlite3 = None  # type: ignore[assignment]

# A transaction waits for a lock at most twice (for other writers, then for readers). So no query
# takes longer than two seconds, even if another process holds the file.
_LOCK_S = 1.0


@dataclass(frozen=True)
class Fault:
    """Why the file cannot be used.

    Attributes:
        what: the problem, as the predicate of a sentence about the file: "is not a database".
        remedy: what to do about it; empty if it is temporary.
    """

    what: str
    remedy: str

    @property
    def passes(self) -> bool:
        return not self.remedy

    @property
    def advice(self) -> str:
        """The remedy in parentheses, for the end of a message."""
        return f" ({self.remedy})" if self.remedy else ""


class FaultError(Exception):
    """The file can be opened, but must not be used. Never leaves this package."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.fault = Fault(what, remedy)


#: The exceptions of a file that cannot be used. A damaged file may have a text for a number.
BROKEN: tuple[type[Exception], ...] = (
    FaultError,
    OSError,
    OverflowError,
    TypeError,
    ValueError,
    *((sqlite3.Error,) if sqlite3 else ()),
)

_OTHER = "give another --history PATH"
_MOVE = f"move it away, or {_OTHER}"

READ_ONLY = Fault("cannot be written", _OTHER)
NO_SQLITE = Fault("cannot be used: this Python has no sqlite3", "use a Python that has it")

# Faults by SQLite's message. Its error codes would not do: a missing table has the general code 1.
_WORDS = {
    "not a database": Fault("is not a database", _MOVE),
    "malformed": Fault("is damaged", _MOVE),
    "no such": Fault("is damaged", _MOVE),
    "readonly": READ_ONLY,
    "unable to open": Fault("cannot be opened or made", _OTHER),
    "locked": Fault("is in use by another process", ""),
}


def fault_of(error: Exception) -> Fault:
    """Return the fault for one of the exceptions in `BROKEN`."""
    if isinstance(error, FaultError):
        return error.fault
    if isinstance(error, OSError):
        return Fault(f"cannot be used: {error.strerror or error}", _OTHER)
    known = (fault for words, fault in _WORDS.items() if words in str(error))
    return next(known, Fault(f"cannot be used: {error}", _MOVE))


def fault_of_python() -> Fault | None:
    """Return why this Python cannot use any history file; None if it can."""
    return None if sqlite3 else NO_SQLITE


def default_path() -> Path:
    """Return the path for the current folder's project in the user's cache. Raises OSError."""
    here = os.getcwd()
    name = re.sub(r"[^A-Za-z0-9._-]", "_", Path(here).name)[:40]
    digest = hashlib.sha256(os.fsencode(here)).hexdigest()[:10]
    cache = platformdirs.user_cache_path("harness")
    if not cache.is_absolute():  # a user without a home, as in some containers
        raise OSError("there is no home folder for it")
    return cache / f"history-{name}-{digest}.sqlite"


def check(path: Path) -> None:
    """Raise FaultError or OSError if the file must not or cannot be opened."""
    if path.is_dir():
        raise FaultError("is a folder", "give the path of a file")
    if path.exists() and not path.is_file():
        # Opening a named pipe would block until another process opens its other end.
        raise FaultError("is not a regular file", _OTHER)
    if path.exists() and not os.access(path, os.R_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def is_writable(path: Path) -> bool:
    """Whether the file is missing, or both it and its folder (for the journal) are writable."""
    return not path.exists() or all(os.access(p, os.W_OK) for p in (path, path.parent))


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    """Open a connection for queries; yield None if nothing has been recorded yet.

    Raises:
        FaultError, OSError, sqlite3.Error: if the file cannot be used.
    """
    if not path.exists():
        yield None
        return
    check(path)
    # Not mode=ro: a run that was killed while writing leaves a journal, which SQLite must
    # roll back first.
    with contextlib.closing(_connect(path, "rw")) as connection:
        yield connection if _version(connection) else None


@contextlib.contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a connection in a transaction; create the file and its tables if missing.

    Raises:
        FaultError, OSError, sqlite3.Error: if the file cannot be used; it is then unchanged.
    """
    check(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.closing(_connect(path, "rwc")) as connection:
        connection.execute("BEGIN IMMEDIATE")
        if not _version(connection):
            for statement in TABLES:
                connection.execute(statement)
        yield connection
        connection.execute("COMMIT")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=_LOCK_S, isolation_level=None)


def _version(connection: sqlite3.Connection) -> int:
    """Return the schema's version; 0 for an empty database. Raises FaultError for a foreign one."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (application, version, tables) == (0, 0, 0):
        return 0
    if application != APPLICATION:
        raise FaultError("is a database of another program", _OTHER)
    if version > SCHEMA:
        what = f"was written by a newer harness (schema {version}; this one knows {SCHEMA})"
        raise FaultError(what, _OTHER)
    return int(version)

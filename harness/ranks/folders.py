"""Make and remove temp folders: one per session, with one per test, readable only by the user.

    $TMPDIR/harness-XXXXXXXX/            the session: one process and those that it starts
        harness-session.lock             locked while that process lives
        12-test_sync/                    a test: its logs, stores and pipes
            tmp/                         the TMPDIR of its ranks
        w3/                              the part of a runner's worker, with tests of its own
    $TMPDIR/harness-kept-…/              a test's folder that the user wants to keep

However a session ends, none of its files stay in the system's temp folder. The parent removes its
folder at exit; the fork server does so if the parent was killed; the next session removes what
neither of them could.

A session holds a lock (flock) on a file in its folder while its process lives. Only the session
itself, or one that gets that lock, removes the folder. A process id would not do: sessions in other
containers and on other hosts may use the same temp folder.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import itertools
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.model.errors import FolderError
from harness.ranks.descriptors import OwnDescriptor, duplicate_high

_PREFIX = "harness-"
_NAME = re.compile(rf"{_PREFIX}[a-z0-9_]{{8}}")  # as tempfile.mkdtemp makes them
_LOCK = "harness-session.lock"

# Sockets live in temp folders too, and their paths may have no more than 107 characters (Linux,
# sockaddr_un). The longest path that multiprocessing and torch add to a temp folder by themselves
# has 34 characters ("/torch-shm-dir-XXXXXX/manager.sock", torch 2.13). The temp folder of a rank is
# "/harness-XXXXXXXX/w12/12345-123456789012/tmp", 45 characters. What is left is for TMPDIR.
_NAME_LENGTH = 12
_LONGEST_TEMP = 107 - 34 - 45
# If TMPDIR is longer, a link with a short path is made in the first of these that works.
_SHORT_PLACES = ("/tmp", "/var/tmp", "/dev/shm")
_LINK = "s"


@dataclass(frozen=True)
class _Session:
    """The folders of one process.

    Attributes:
        pid: the process.
        folder: its folder.
        top: the folder of the whole session, which may belong to another process.
        short: a link to `top` with a short path; `top` itself if its path is short enough.
    """

    pid: int
    folder: Path
    top: Path
    short: Path


_counter = itertools.count(1)
_session: _Session | None = None
# By folder; open while this process lives. flock() locks belong to the open file description, which
# a fork shares. So a fork closes them: else it would hold the lock after this process has ended.
_locks: dict[Path, OwnDescriptor] = {}


def _close_locks_in_fork() -> None:
    for lock in _locks.values():
        lock.close()
    _locks.clear()


os.register_at_fork(after_in_child=_close_locks_in_fork)


@contextlib.contextmanager
def making(what: str, place: str | Path) -> Iterator[None]:
    """Turn an OSError inside the block into a FolderError of one sentence.

    Raises:
        FolderError: with what could not be made, where, and what to do.
    """
    try:
        yield
    except OSError as error:
        raise FolderError(
            f"cannot make {what} in {place}: {error.strerror or error}; set TMPDIR to a writable "
            "folder with free space and a path that is not too long"
        ) from error


def session_folder() -> Path:
    """Return the folder of this process, made on first use; a fork makes its own."""
    return _own_session().folder


def short_session_folder() -> Path:
    """Return a short path to the folder of the whole session."""
    return _own_session().short


def folders_to_remove() -> tuple[str, ...]:
    """Return the folders to remove when this process has gone, the session's folder first."""
    session = _own_session()
    if session.folder != session.top:
        return (str(session.folder),)  # the rest is removed with the session that it belongs to
    aliases = [session.short.parent] if session.short != session.top else []
    return tuple(str(folder) for folder in (session.top, *aliases))


def _own_session() -> _Session:
    global _session
    if _session is None or _session.pid != os.getpid():
        with making("any file", "a temp folder"):
            temp = Path(tempfile.gettempdir())
        _sweep(temp)
        with making("the folder of this run", temp):
            top = _make_locked(temp)
        short = top if len(os.fsencode(temp)) <= _LONGEST_TEMP else _make_link(top)
        _session = _Session(os.getpid(), top, top, short)
        atexit.register(_remove_session, os.getpid(), folders_to_remove())
    return _session


def use_part_of_session(session: Path, short: Path, name: str) -> None:
    """Use a new folder inside another process's session, which removes it.

    Args:
        session: the folder of the other process's session.
        short: a short path to it.
        name: the name of this process's folder in it.
    """
    global _session
    (session / name).mkdir(mode=0o700, exist_ok=True)
    _session = _Session(os.getpid(), session / name, session, short)


def short_path(path: str | Path) -> str:
    """Return a path to a file of this session that is short enough for a socket."""
    session = _own_session()
    return str(session.short / Path(path).relative_to(session.top))


def _make_locked(place: Path) -> Path:
    """Make a folder that no other session removes while this process lives."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
    # The file gets its final name only once it is locked. So a process that can lock it knows that
    # the session has ended. On a file system without locks, it never gets the name, and no other
    # session removes the folder.
    nascent = folder / f"{_LOCK}.new"
    try:
        fd = os.open(nascent, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError:
        folder.rmdir()
        raise
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        nascent.rename(folder / _LOCK)
    except OSError:
        os.close(fd)
    else:
        _locks[folder] = _lock_held_by(fd)
    return folder


def _lock_held_by(fd: int) -> OwnDescriptor:
    try:
        high = duplicate_high(fd)  # has the same lock
    except OSError:  # the process may not open any more
        high = fd
    else:
        os.close(fd)
    return OwnDescriptor(high, "the lock of the session's temp folder")


def lock_again() -> None:
    """Lock this process's folders again, if a test has closed the locked descriptors."""
    for folder, lock in list(_locks.items()):
        if lock.is_intact:
            continue
        del _locks[folder]
        try:
            fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:  # another session has removed it meanwhile
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # another session has locked it, and is about to remove it
            os.close(fd)
        else:
            _locks[folder] = _lock_held_by(fd)


def _make_link(session: Path) -> Path:
    """Make a link to the session's folder where paths are short, in a folder like a session's."""
    for place in _SHORT_PLACES:
        try:
            _sweep(Path(place))
            link = _make_locked(Path(place)) / _LINK
            link.symlink_to(session)
        except OSError:
            continue
        return link
    remove_folders([str(session)])
    raise FolderError(
        f"the path of the temp folder {session.parent} is too long for the sockets in it (it may "
        f"have {_LONGEST_TEMP} characters), and none of {', '.join(_SHORT_PLACES)} can be written "
        "to: set TMPDIR to a folder with a shorter path"
    )


def new_test_folder(name: str) -> Path:
    """Make an empty folder, mode 0700, whose name starts with the test's name; return it."""
    readable = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[-_NAME_LENGTH:]
    folder = session_folder() / f"{next(_counter)}-{readable}"
    with making(f"the folder {folder.name} for the files of {name}", folder.parent):
        folder.mkdir(mode=0o700)
    return folder


def temp_folder(test_folder: str | Path) -> str:
    """Return the temp folder of a test's ranks, which is removed with the test.

    It is separate from the harness's own files. Its path is short enough for sockets.
    """
    folder = os.path.join(test_folder, "tmp")
    with making("the temp folder of the ranks", test_folder):
        os.makedirs(folder, mode=0o700, exist_ok=True)
    return short_path(folder)


def remove(folder: str | Path) -> None:
    """Remove a folder of this session with its contents, read-only files included.

    Raises:
        FolderError: if it is not inside this session's folder, and so is not the harness's.
    """
    if not _is_ours(Path(folder)):
        raise FolderError(
            f"the harness does not remove {folder}: it is not in the folder of this session "
            f"({_session.top if _session else 'there is none'})"
        )
    _remove_tree(folder)


def _is_ours(folder: Path) -> bool:
    """Whether a folder is below the session's folder, and not a link to somewhere else."""
    if _session is None or not folder.is_absolute() or folder.is_symlink():
        return False
    session = os.path.realpath(_session.top)
    real = os.path.join(os.path.realpath(folder.parent), folder.name)
    return real.startswith(session + os.sep) and folder.name not in {"", ".", ".."}


def _remove_tree(folder: str | Path) -> None:
    try:
        if _remove_plain(folder):
            return
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError:
        _make_writable(Path(folder))
        shutil.rmtree(folder, ignore_errors=True)


def _remove_plain(folder: str | Path) -> bool:
    """Remove files and empty folders, the usual case; return whether that was all."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                (os.rmdir if entry.is_dir(follow_symlinks=False) else os.unlink)(entry.path)
        os.rmdir(folder)
    except FileNotFoundError:
        raise
    except OSError:
        return False
    return True


def _make_writable(folder: Path) -> None:
    for root, _, _ in os.walk(folder):
        try:
            os.chmod(root, stat.S_IRWXU)
        except OSError:
            continue


def remove_folders(folders: Iterable[str]) -> None:
    """Remove the folders of a session that has ended or is ending, as far as possible."""
    for folder in folders:
        # The lock file goes last: without it, no later session could remove what is left.
        with contextlib.suppress(OSError):
            for entry in os.scandir(folder):
                if entry.name != _LOCK:
                    is_folder = entry.is_dir(follow_symlinks=False)
                    (_remove_tree if is_folder else os.unlink)(entry.path)
        _remove_tree(folder)


def _remove_session(pid: int, folders: Iterable[str]) -> None:
    if os.getpid() == pid:  # a forked child inherits the exit handler but not the folder
        remove_folders(folders)


def kept_path(folder: Path) -> Path:
    """Return the path to which `keep` moves a test's folder."""
    session = _session.top if _session is not None else folder.parent
    name = "-".join((session.name, *folder.relative_to(session).parts))
    return session.parent / f"{_PREFIX}kept-{name}"


def keep(folder: Path) -> None:
    """Move a test's folder out of the session's folder, so that no session removes it."""
    folder.rename(kept_path(folder))


def _sweep(temp: Path) -> None:
    """Remove the folders of this user's sessions that have ended."""
    with contextlib.suppress(OSError):
        for folder in temp.glob(f"{_PREFIX}*"):
            if _NAME.fullmatch(folder.name):
                _remove_if_ended(folder)


def _remove_if_ended(folder: Path) -> None:
    """Remove a session's folder if nobody holds its lock; keep it if in doubt."""
    try:
        about = folder.lstat()
        if about.st_uid != os.getuid() or not stat.S_ISDIR(about.st_mode):
            return
        fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another session may have removed the folder meanwhile.
        if os.path.samestat(os.fstat(fd), os.stat(folder / _LOCK)):
            remove_folders([str(folder)])
    except OSError:
        return
    finally:
        os.close(fd)

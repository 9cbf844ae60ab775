"""Temp folders: one for a session, in it one for each test, readable by the user alone.

However a session ends, nothing of it stays in the system's temp folder: the parent removes its
folder when it exits, the fork server does so when the parent was killed, and the next session
sweeps up after one that left neither.
"""

from __future__ import annotations

import atexit
import itertools
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path

import psutil

from harness.model.errors import FolderError

_PREFIX = "harness-"
_NAME = re.compile(rf"{_PREFIX}(\d+)-(\d+)-")
# Sockets live in temp folders too, and their paths may have no more than 107 characters.
_NAME_LENGTH = 24
_counter = itertools.count(1)
# The process, its folder, and the folder of the whole session, in which it may be.
_session: tuple[int, Path, Path] | None = None


def session_folder() -> Path:
    """The folder of this process, made on first use (and again after a fork of it)."""
    global _session
    if _session is None or _session[0] != os.getpid():
        _sweep(Path(tempfile.gettempdir()))
        started = int(psutil.Process().create_time())
        folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-{started}-")
        _session = (os.getpid(), Path(folder), Path(folder))
        atexit.register(_remove_session, os.getpid(), folder)
    return _session[1]


def use_part_of_session(session: Path, name: str) -> None:
    """Keep this process's files in a folder, to be made, of another's session, which removes it."""
    global _session
    (session / name).mkdir(mode=0o700)
    _session = (os.getpid(), session / name, session)


def new_test_folder(name: str) -> Path:
    """An empty folder, mode 0700, whose name starts with the test's, for a reader's eyes."""
    readable = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[-_NAME_LENGTH:]
    folder = session_folder() / f"{next(_counter)}-{readable}"
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise FolderError(
            f"cannot make the folder {folder} for the files of {name}: {error.strerror}; "
            f"set TMPDIR to a folder with room that you may write to"
        ) from error
    return folder


def temp_folder(test_folder: str | Path) -> str:
    """The temp folder of a test's ranks, so that what they leave there goes with the test.

    It is apart from where the harness keeps its own files.
    """
    folder = os.path.join(test_folder, "tmp")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return folder


def remove(folder: str | Path) -> None:
    """Remove a folder of this session and all in it, also what a test made read-only.

    Raises:
        FolderError: if it is not inside this session's folder, and so is not the harness's.
    """
    if not _is_ours(Path(folder)):
        raise FolderError(
            f"the harness does not remove {folder}, which is not in the folder of this session "
            f"({_session[2] if _session else 'there is none'})"
        )
    _remove_tree(folder)


def _is_ours(folder: Path) -> bool:
    """Whether it is below the session's folder, and not a link, by which all behind it would go."""
    if _session is None or not folder.is_absolute() or folder.is_symlink():
        return False
    session = os.path.realpath(_session[2])
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
    """Remove what most tests leave, files and empty folders; says whether that was all."""
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


def _remove_session(pid: int, folder: str) -> None:
    if os.getpid() == pid:  # a forked child inherits the exit handler but not the folder
        _remove_tree(folder)


def kept_path(folder: Path) -> Path:
    """Where `keep` moves a test's folder."""
    session = _session[2] if _session is not None else folder.parent
    name = "-".join((session.name, *folder.relative_to(session).parts))
    return session.parent / f"{_PREFIX}kept-{name}"


def keep(folder: Path) -> None:
    """Move a test's folder to where no session removes it."""
    folder.rename(kept_path(folder))


def _sweep(temp: Path) -> None:
    """Remove the folders of this user's sessions whose process is gone."""
    for folder in temp.glob(f"{_PREFIX}*"):
        match = _NAME.match(folder.name)
        try:
            if match and folder.stat().st_uid == os.getuid() and not _alive(*match.groups()):
                _remove_tree(folder)
        except OSError:
            continue


def _alive(pid: str, started: str) -> bool:
    try:
        # Process ids come round again; the start time tells two holders of one apart.
        return abs(psutil.Process(int(pid)).create_time() - int(started)) < 2
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True

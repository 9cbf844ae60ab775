"""Report files: found wanting before the run begins, and put in place only when complete."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from harness.model.errors import UsageError
from harness.model.settings import quoted


def check_writable(path: str, option: str) -> Path:
    """See that a report can be written there, without touching a report that is there already.

    Args:
        path: as the user gave it; a relative one counts from the current folder.
        option: what to name in the complaint, such as `--junit`.

    Returns:
        the path, absolute, since a test may change the current folder.

    Raises:
        UsageError: if nothing can be written there.
    """
    if not path:
        raise UsageError(f"{option} needs the name of a file")
    try:
        return _checked(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{option}: {quoted(path)} cannot be written: {_why(error)}") from None


def replace(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file so that whoever reads it finds the old content or the new one, never a part.

    Raises:
        OSError: if it cannot be written; then what was there is there still.
    """
    if _is_special(Path(path)):  # /dev/stdout, a named pipe: no file could take its place
        Path(path).write_bytes(content)
        return
    target = _real(path)
    with _beside(target) as temporary:
        temporary.write_bytes(content)
        os.replace(temporary, target)


def _checked(path: str) -> Path:
    if path.endswith(os.sep) or os.path.isdir(path):
        raise IsADirectoryError("it is a folder")
    if path.endswith(".py"):  # as in `--junit test_x.py`, where the option's value is forgotten
        raise ValueError("it is a Python file")
    target = Path(path).absolute() if _is_special(Path(path)) else _real(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent}")
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError("you may not write to it")
    if not _is_special(target):
        with _beside(target):
            pass
    return target


def _real(path: str | os.PathLike[str]) -> Path:
    """Where a file at that path is: a link stays a link to the report."""
    return Path(os.path.realpath(path))


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A new, empty file in the same folder; it is gone afterwards unless it has been renamed.

    Only the attempt tells whether a folder can be written to: root may do anything except on a
    file system that is read-only.
    """
    temporary = target.with_name(f".report-{secrets.token_hex(8)}")
    temporary.open("x").close()  # with the mode that the user's umask gives any new file
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _why(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)

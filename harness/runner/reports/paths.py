"""Check the paths of reports before the run, and replace the files atomically after it."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from harness.model.errors import UsageError
from harness.model.settings import quoted


def check_writable(path: str, option: str) -> Path:
    """Check that a report can be written, without changing an existing one.

    Args:
        path: the user's path, absolute or relative to the current folder.
        option: the option to name in the message, such as `--junit`.

    Returns:
        the absolute path, since a test may change the current folder.

    Raises:
        UsageError: if the file cannot be written.
    """
    if not path:
        raise UsageError(f"{option} needs the name of a file")
    try:
        return _checked(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{option}: {quoted(path)} cannot be written: {_why(error)}") from None


def replace(path: str | os.PathLike[str], content: bytes) -> None:
    """Replace a file atomically: a reader finds the old content or the new one, never a part.

    Raises:
        OSError: if it cannot be written; the old file is then unchanged.
    """
    if _is_special(Path(path)):  # /dev/stdout or a named pipe, which a rename would replace
        Path(path).write_bytes(content)
        return
    target = _real(path)
    with _beside(target) as temporary:
        temporary.write_bytes(content)
        os.replace(temporary, target)


def _checked(path: str) -> Path:
    if path.endswith(os.sep) or os.path.isdir(path):
        raise IsADirectoryError("it is a folder")
    if path.endswith(".py"):  # `--junit test_x.py`: the user forgot the option's value
        raise ValueError("it is a Python file")
    target = Path(path).absolute() if _is_special(Path(path)) else _real(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent}")
    # A rename would replace a read-only file without an error.
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError("you may not write to it")
    if not _is_special(target):
        with _beside(target):
            pass
    return target


def _real(path: str | os.PathLike[str]) -> Path:
    """Resolve links, so that a link is not replaced, but still points to the report."""
    return Path(os.path.realpath(path))


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """Create an empty file in the same folder; remove it afterwards unless it has been renamed.

    Creating one is the only reliable check of a folder: os.access() allows root everything, even on
    a read-only file system.
    """
    temporary = target.with_name(f".report-{secrets.token_hex(8)}")
    temporary.open("x").close()  # with the mode that the user's umask gives any new file
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _why(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)

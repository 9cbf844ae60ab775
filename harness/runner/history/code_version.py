"""Whether two runs had the same code: a short name for what git sees in the current folder."""

from __future__ import annotations

import hashlib
import os
import subprocess

# Each command of git; a huge checkout on a slow disk is not worth waiting for.
_LIMIT_S = 1.0


def code_version(with_new_files: bool = True) -> str:
    """Sixteen letters that change with the commit, with changes to it and with new Python files.

    Args:
        with_new_files: whether these count, by size and time, which differ from host to host.

    Returns:
        the name, or nothing where git is missing, too slow or has no commit here.
    """
    try:
        digest = hashlib.sha256(_git("rev-parse", "HEAD"))
        digest.update(_git("diff", "--no-ext-diff", "--no-textconv", "HEAD"))
        for name in _new_files() if with_new_files else ():
            digest.update(name + b"\0" + _stamp(name))
    except (OSError, subprocess.SubprocessError):
        return ""
    return digest.hexdigest()[:16]


def _new_files() -> list[bytes]:
    return _git("ls-files", "-z", "--others", "--exclude-standard", "*.py").split(b"\0")


def _git(*arguments: str) -> bytes:
    # Without optional locks, git leaves the index of a running `git add` alone.
    command = ["git", "--no-pager", "--no-optional-locks", "-c", "core.fsmonitor=false", *arguments]
    done = subprocess.run(
        command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=_LIMIT_S
    )
    return done.stdout


def _stamp(name: bytes) -> bytes:
    """Size and time of a new file, which stand for what is in it: there may be very many."""
    try:
        found = os.stat(name)
    except OSError:
        return b""
    return b"%d %d" % (found.st_size, found.st_mtime_ns)

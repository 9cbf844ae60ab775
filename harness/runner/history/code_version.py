"""A digest of the code in the current folder, from git, to tell whether two runs had the same."""

from __future__ import annotations

import hashlib
import os
import subprocess

# Time limit for each git command: a huge checkout on a slow disk is not worth waiting for.
_LIMIT_S = 1.0


def code_version(with_new_files: bool = True) -> str:
    """Return a digest of the commit, of uncommitted changes, and of new Python files.

    Args:
        with_new_files: whether to include new files, by size and time, which differ between hosts.

    Returns:
        sixteen hexadecimal digits; empty if git is missing, too slow, or has no commit here.
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
    # With optional locks, `git diff` updates the index, and a `git add` at the same time fails. A
    # file system monitor would start a daemon that outlives the run.
    command = ["git", "--no-pager", "--no-optional-locks", "-c", "core.fsmonitor=false", *arguments]
    done = subprocess.run(
        command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=_LIMIT_S
    )
    return done.stdout


def _stamp(name: bytes) -> bytes:
    """Return size and time of a new file; reading its contents may take long."""
    try:
        found = os.stat(name)
    except OSError:
        return b""
    return b"%d %d" % (found.st_size, found.st_mtime_ns)

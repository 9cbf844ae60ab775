"""Making a new process what its parent wants: environment, folder, path, arguments, output."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence


def become(
    *, environ: Mapping[str, str], cwd: str, sys_path: Sequence[str], argv: Sequence[str]
) -> None:
    """Take these over; a fork of a server has those that the server was started with."""
    for name in os.environ.keys() - environ.keys():
        del os.environ[name]
    for name, value in environ.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
    tempfile.tempdir = None  # the server may have looked for one in another environment
    os.chdir(cwd)
    sys.path[:] = sys_path
    sys.argv[:] = argv


def write_to(stream: str, target: int) -> None:
    """Send what this process writes to a stream, native code included, to a descriptor.

    Args:
        stream: "stdout" or "stderr".
        target: the descriptor, which is closed here.
    """
    fd = _NUMBERS[stream]
    os.dup2(target, fd)
    os.close(target)
    # A new object: the old one remembers what kind of file it was made for. By lines, which must
    # be out when the process dies without warning.
    text = open(fd, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
    setattr(sys, stream, text)
    setattr(sys, f"__{stream}__", text)


_NUMBERS = {"stdout": 1, "stderr": 2}

"""Making a new process what its parent is now: environment, folder, path, arguments."""

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

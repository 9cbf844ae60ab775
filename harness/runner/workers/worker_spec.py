"""What a worker is started with, as plain data."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from harness.runner.selection.files import TestFile


@dataclass(frozen=True)
class WorkerSpec:
    """The frozen request to one worker.

    Attributes:
        number: the worker, from 1.
        session: the folder of the run's session.
        short_session: a short path to it.
        folder: the name of the worker's own folder in it.
        output: the folder in which it keeps what its tests print; empty to print it at once.
        last_record: where it writes the record of a test that has cut it off from the runner.
        environ, cwd, sys_path, argv: the runner's.
        threads: how many threads torch may use in the worker itself; 0 for as many as it likes.
        unsafe: why ranks cannot be forked; empty if they can.
        terminal: the process group of the runner, whose the terminal is.
        command, started_in: how, and in which folder, the user started the runner.
        failfast: leave a test at its first sub-test that fails.
    """

    number: int
    session: str
    short_session: str
    folder: str
    output: str
    last_record: str
    environ: dict[str, str]
    cwd: str
    sys_path: tuple[str, ...]
    argv: tuple[str, ...]
    threads: int
    unsafe: str
    terminal: int
    command: tuple[str, ...]
    started_in: str
    failfast: bool


@dataclass(frozen=True)
class Wanted:
    """Which tests a run is about.

    Attributes:
        files: the test files to import.
        is_script: whether it is about the tests of `__main__` instead.
        names: dotted names and paths, as on the command line.
        patterns: of `-k`.
        folder: where the user started the runner, for names of modules.
        remarks: lines for the reader about the files.
    """

    files: tuple[TestFile, ...]
    names: tuple[str, ...]
    patterns: tuple[str, ...]
    is_script: bool = False
    folder: str = field(default_factory=os.getcwd)
    remarks: tuple[str, ...] = ()

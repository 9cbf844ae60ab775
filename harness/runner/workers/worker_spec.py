"""The request that starts a worker, as plain data."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from harness.model.surroundings import Surroundings
from harness.runner.selection.files import TestFile


@dataclass(frozen=True)
class WorkerSpec:
    """Everything that one worker needs to know when it starts.

    Attributes:
        number: the number of the worker, from 1.
        session: the session folder of the run.
        short_session: a short path to it.
        folder: the name of the worker's own folder in it.
        output: the folder for the captured output of tests; empty to print it at once.
        last_record: the file for the record of a test that closed the channel to the runner.
        surroundings: the runner's.
        threads: how many threads torch may use in the worker; 0 for torch's default.
        unsafe: why ranks cannot be forked; empty if they can.
        terminal: the runner's process group, which owns the terminal.
        command, started_in: the command that started the runner, and its folder.
        failfast: whether a test ends at its first failing subtest.
    """

    number: int
    session: str
    short_session: str
    folder: str
    output: str
    last_record: str
    surroundings: Surroundings
    threads: int
    unsafe: str
    terminal: int
    command: tuple[str, ...]
    started_in: str
    failfast: bool


@dataclass(frozen=True)
class Wanted:
    """The tests that the user asked for.

    Attributes:
        files: the test files to import.
        is_script: whether to run the tests of `__main__` instead.
        names: dotted names and paths, as on the command line.
        patterns: the expressions of `-k`.
        folder: the folder where the user started the runner, for the names of modules.
        remarks: lines for the user about the files.
    """

    files: tuple[TestFile, ...]
    names: tuple[str, ...]
    patterns: tuple[str, ...]
    is_script: bool = False
    folder: str = field(default_factory=os.getcwd)
    remarks: tuple[str, ...] = ()

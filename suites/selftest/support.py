"""What the self-tests share: write a suite to a folder, run a command, look for leftovers."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import psutil

from harness.ranks import folders
from harness.runner import main as runner

ROOT = Path(__file__).resolve().parents[2]

# A command that has not come back by then hangs; the slowest takes a quarter of it.
COMMAND_LIMIT_S = 240
# How long a process may take to be gone after its parent has ended. The fork server and Python's
# resource tracker leave by themselves when they see the end of a pipe.
GONE_LIMIT_S = 5


# torch built for CUDA says so where there is a CUDA toolkit but no GPU, as soon as its test helpers
# are imported.
_NO_CUDA_RUNTIME = re.compile(r"(?m)^W.*No CUDA runtime is found, using CUDA_HOME=.*\n")


@dataclass
class Finished:
    """A command that has come back.

    Attributes:
        code: its exit code.
        out, err: what it wrote.
        left_processes: command lines of processes of it that still run.
        left_files: what it left in the system's temp folder.
    """

    code: int
    out: str
    err: str
    left_processes: list[str]
    left_files: list[str]

    @property
    def last_line(self) -> str:
        return self.out.rstrip("\n").rpartition("\n")[2]


def run_python(
    *arguments: str, limit_s: float = COMMAND_LIMIT_S, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run Python in the checkout's folder; returns its exit code and output."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )


def new_folder(test: unittest.TestCase) -> Path:
    """Return a new folder, which is removed after the test."""
    return Path(test.enterContext(tempfile.TemporaryDirectory(prefix="selftest ")))


class FolderTestCase(unittest.TestCase):
    """Has a folder of its own."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = new_folder(self)


class Sandbox:
    """A folder of its own, whose name has a space in it, and commands that run in it.

    Attributes:
        base: everything is in it.
        folder: where commands run.
        temp: the temp folder of the commands.
    """

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="selftest "))
        self.folder = self.base / "user's project"
        self.folder.mkdir()
        self.temp = self.base / "temp"
        self.temp.mkdir()
        self.mark = ""

    def remove(self) -> None:
        shutil.rmtree(self.base, ignore_errors=True)

    def environ(self, extra: dict[str, str | None]) -> dict[str, str]:
        ours = {
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.temp),
            "SELFTEST_MARK": self.mark,
            "COLUMNS": "200",
            "XDG_CACHE_HOME": str(self.base / "cache"),
            **extra,
        }
        drop = ("SANDCASTLE", "TW_JOB_USER", "CI", "HARNESS_", "DISTRIBUTED_TESTS")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(drop)}
        return {k: v for k, v in {**kept, **ours}.items() if v is not None}

    def start(self, *command: str, cwd: Path | None = None, **env: str | None) -> subprocess.Popen:
        """A command, started; for tests that do something to it while it runs."""
        self.mark = uuid.uuid4().hex
        return subprocess.Popen(
            command,
            cwd=cwd or self.folder,
            env=self.environ(env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )

    def finish(self, process: subprocess.Popen, limit_s: float = COMMAND_LIMIT_S) -> Finished:
        """Wait for a command; then see what it has left behind."""
        try:
            out, err = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(
                f"the command did not come back within {limit_s} s:\n{out}\n{err}"
            ) from None
        err = _NO_CUDA_RUNTIME.sub("", err)
        left = left_processes(self.mark)
        files = sorted(str(p.relative_to(self.temp)) for p in self.temp.rglob("*"))
        return Finished(process.returncode, out, err, left, files)

    def run(self, *command: str, cwd: Path | None = None, **env: str | None) -> Finished:
        """Run a command to its end."""
        return self.finish(self.start(*command, cwd=cwd, **env))


class CommandTestCase(unittest.TestCase):
    """Runs commands in a sandbox."""

    def setUp(self) -> None:
        super().setUp()
        self.sandbox = self.new_sandbox()
        self.folder, self.temp = self.sandbox.folder, self.sandbox.temp

    def new_sandbox(self) -> Sandbox:
        """A sandbox that goes with the test."""
        sandbox = Sandbox()
        self.addCleanup(sandbox.remove)
        return sandbox

    def write(self, name: str, text: str) -> Path:
        """A file in the folder, with the text's indentation removed."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"))
        return path

    def start(self, *command: str, cwd: Path | None = None, **env: str | None) -> subprocess.Popen:
        return self.sandbox.start(*command, cwd=cwd, **env)

    def finish(self, process: subprocess.Popen, limit_s: float = COMMAND_LIMIT_S) -> Finished:
        return self.sandbox.finish(process, limit_s)

    def run_command(self, *command: str, cwd: Path | None = None, **env: str | None) -> Finished:
        return self.sandbox.run(*command, cwd=cwd, **env)

    def harness(self, *arguments: str, **env: str | None) -> Finished:
        """`python -m harness …` in the folder."""
        return self.run_command(sys.executable, "-m", "harness", *arguments, **env)

    def harness_here(self, *arguments: str) -> Finished:
        """`python -m harness …` in the folder, but in this process: for what runs no tests."""
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.folder),
            mock.patch.dict(os.environ, self.sandbox.environ({}), clear=True),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.object(runner, "join_threads_and_run_exit_handlers"),
            mock.patch.object(runner, "leave", side_effect=sys.exit),
            self.assertRaises(SystemExit) as ended,
        ):
            runner.main(["__main__.py", *arguments])
        assert isinstance(ended.exception.code, int)
        return Finished(ended.exception.code, out.getvalue(), err.getvalue(), [], [])

    def assert_clean(self, finished: Finished) -> None:
        """Nothing of the command is left."""
        self.assertEqual(finished.left_processes, [])
        self.assertEqual(finished.left_files, [])


def wait_for_texts(paths: list[Path], process: subprocess.Popen) -> list[str]:
    """The contents of files that a command is going to write."""
    deadline = time.monotonic() + COMMAND_LIMIT_S
    while not all(path.exists() and path.read_text() for path in paths):
        if time.monotonic() > deadline or process.poll() is not None:
            raise AssertionError(f"no {paths}: {process.communicate()}")
        time.sleep(0.02)
    return [path.read_text() for path in paths]


@contextlib.contextmanager
def cores(count: int) -> Iterator[None]:
    """Have this process believe that it may use so many processors."""
    with (
        mock.patch.object(os, "sched_getaffinity", return_value=set(range(count))),
        mock.patch("harness.model.cores.cpu_quota", return_value=None),
    ):
        yield


def left_processes(mark: str) -> list[str]:
    """Processes with this mark in their environment that are still there after a short while."""
    deadline = time.monotonic() + GONE_LIMIT_S
    while True:
        left = [p for p in psutil.process_iter() if marked(p, mark)]
        if not left or time.monotonic() > deadline:
            return [_describe(p) for p in left]
        psutil.wait_procs(left, timeout=max(0.0, deadline - time.monotonic()))


def marked(process: psutil.Process, mark: str) -> bool:
    """Whether it is of the command with this mark, and still runs."""
    try:
        return (
            process.environ().get("SELFTEST_MARK") == mark
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.Error:
        return False


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {process.status()} {' '.join(process.cmdline())}"
    except psutil.Error:
        return str(process.pid)


@dataclass
class CaseResult:
    """One test case, run here and now.

    Attributes:
        status: passed, failed, error, skipped, expected failure or unexpected success.
        text: the reason of a skip, or the text of failures and errors.
        seconds: how long it took.
        titles: the title of each failure and error (sub-tests have their own).
    """

    status: str
    text: str
    seconds: float
    titles: list[str]


def run_case(cls: type[unittest.TestCase], method: str) -> CaseResult:
    """Run one test of a class as unittest does."""
    result = unittest.TestResult()
    started = time.monotonic()
    suite = unittest.TestSuite([cls(method)])
    suite.run(result)
    seconds = time.monotonic() - started
    found = {
        "error": result.errors,
        "failed": result.failures,
        "skipped": result.skipped,
        "expected failure": result.expectedFailures,
        "unexpected success": [(t, "") for t in result.unexpectedSuccesses],
    }
    status = next((name for name, items in found.items() if items), "passed")
    bad = result.errors + result.failures
    text = "\n".join(text for items in found.values() for _, text in items)
    return CaseResult(status, text, seconds, [str(test) for test, _ in bad])


def normalised(text: str) -> str:
    """Output without what differs from run to run: times, process ids, addresses."""
    text = re.sub(r"0x[0-9a-f]+", "0x…", text)
    return re.sub(r"\d+\.\d+ s", "… s", text)


class InProcess(unittest.TestCase):
    """Runs sample tests in this process; their ranks write what they see to a folder."""

    def setUp(self):
        super().setUp()
        self.out = new_folder(self)
        # unittest runs no cleanups after Ctrl-C, so an interrupted test's folder stays until this
        # process exits. A self-test that interrupts a sample may have run before this one.
        self._folders_before = self._test_folders()

    def passes(self, cls, method, **env):
        """Run a sample that must pass; returns what its ranks recorded, by rank."""
        return self.recorded_by(cls, method, "passed", **env)[0]

    def recorded_by(self, cls, method, status, **env):
        """Run a sample; returns what its ranks recorded, by rank, and the result."""
        with mock.patch.dict(os.environ, {"SAMPLE_OUT": str(self.out), **env}):
            result = run_case(cls, method)
        self.assertEqual(result.status, status, result.text)
        files = sorted(self.out.iterdir())
        texts = [file.read_text() for file in files]
        for file in files:
            file.unlink()
        return texts, result

    def assert_no_folder_left(self):
        self.assertEqual(self._test_folders() - self._folders_before, set())

    def _test_folders(self) -> set[str]:
        found = [p.name for p in folders.session_folder().iterdir() if p.is_dir()]
        return {name for name in found if not name.endswith("-world")}

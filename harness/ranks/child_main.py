"""The entry of a rank: becomes what the launch spec says, runs the test, and tells the truth."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import inspect
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection
from operator import attrgetter
from typing import Any

from harness.model.outcome import Passed, Problem, Raised, Spoken, spoken_to_data
from harness.model.skips import TEST_ERROR_EXIT_CODE
from harness.model.spec import LaunchSpec
from harness.ranks import child_lifeline
from harness.ranks.channel import FrameWriter
from harness.ranks.child_preload import forget_exit_handlers_of_the_server
from harness.ranks.child_problems import problem_of
from harness.ranks.leaving import end_as_an_interpreter_does
from harness.ranks.logs import log_path


class RankPipe:
    """The rank's end of the channel; the `pipe` that the `_run` and `run_test` hooks are given."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._writer = FrameWriter(connection.fileno())
        self.outcome: Spoken | None = None

    def hello(self) -> None:
        """The rank is up: its class is found and the body is about to start."""
        self._send({"kind": "hello"})

    def report(self, outcome: Spoken) -> None:
        """Say what became of the body. Only the first report counts."""
        if self.outcome is None:
            self.outcome = outcome
            self._send({"kind": "outcome", "outcome": spoken_to_data(outcome)})

    def leaving(self, request: SystemExit) -> None:
        """Somebody called sys.exit(); say where, in case nothing else was reported."""
        if self.outcome is None:
            place = problem_of((SystemExit, request, request.__traceback__)).where
            self._send({"kind": "leaving", "where": asdict(place) if place else None})

    def goodbye(self, imported: tuple[str, ...]) -> None:
        """The process group is down and exit handlers have run; the process is about to exit."""
        self._send({"kind": "goodbye", "imported": imported})

    def send(self, text: object) -> None:
        """For tests written against PyTorch's harness, which send a traceback as text."""
        message = str(text)
        self.report(Raised((Problem("Exception", message, message, is_assertion=False),)))

    def close(self) -> None:
        """PyTorch's harness closes the pipe after the body; here it stays open until the exit."""

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the parent has gone, and so will this process
            self._writer.send(message)


def rank_main(spec: LaunchSpec, rank: int, connection: Connection) -> None:
    """Run one test as one rank. Returns normally only if the body passed."""
    os.setpgid(0, 0)
    child_lifeline.attach()
    _redirect_output(spec, rank)
    faulthandler.enable()
    forget_exit_handlers_of_the_server()
    pipe = RankPipe(connection)
    known = len(sys.modules)
    try:
        with _reporting(pipe):
            _become(spec)
            cls = _find_class(spec)
            _configure_torch(spec)
            _fix_world_size(cls, spec)
            pipe.hello()
            cls._run(rank, spec.method, spec.file_name, pipe, **spec.extras)
            if pipe.outcome is None:
                raise RuntimeError(
                    f"{spec.qualname}._run() returned without running the test: "
                    "an override must call self.run_test(test_name, pipe)"
                )
    finally:
        end_as_an_interpreter_does()
        # Modules are listed in the order of their import, so the new ones come last.
        pipe.goodbye(tuple(sys.modules)[known:])


@contextlib.contextmanager
def _reporting(pipe: RankPipe) -> Iterator[None]:
    """Report whatever gets out of the class's hooks; leave with PyTorch's exit code for it."""
    try:
        yield
    except SystemExit as leaving:
        # run_test() has reported and leaves with PyTorch's code, or a hook means to exit: then
        # the exit code is the outcome.
        pipe.leaving(leaving)
        raise
    except BaseException:
        problem = problem_of(sys.exc_info())
        sys.stderr.write(problem.traceback + "\n")
        pipe.report(Raised((problem,)))
    if not isinstance(pipe.outcome, Passed):
        sys.exit(TEST_ERROR_EXIT_CODE)


def _redirect_output(spec: LaunchSpec, rank: int) -> None:
    """Send stdout and stderr, what native code writes included, to the rank's own files."""
    for fd, stream in ((1, "stdout"), (2, "stderr")):
        log = os.open(
            log_path(spec.folder, rank, stream), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
        )
        os.dup2(log, fd)
        os.close(log)
    for stream_object in (sys.stdout, sys.stderr):
        # Lines must be in the file when the process dies without warning.
        stream_object.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]


def _become(spec: LaunchSpec) -> None:
    """Take over the parent's environment, folder and arguments as they are now.

    A fork of the server has those that the server was started with.
    """
    os.environ.clear()
    os.environ.update(spec.environ)
    os.chdir(spec.cwd)
    sys.path[:] = spec.sys_path
    sys.argv[:] = spec.argv


def _find_class(spec: LaunchSpec) -> Any:
    module = importlib.import_module(spec.module)
    try:
        return attrgetter(spec.qualname)(module)
    except AttributeError:
        raise RuntimeError(
            f"class {spec.qualname} is not found in module {spec.module} by a new process: define "
            "test classes at module level, or bind classes that are made there to their name"
        ) from None


def _fix_world_size(cls: Any, spec: LaunchSpec) -> None:
    """Make the class's world size the one that was launched.

    A class attribute may be computed from the command line or the environment, which were other
    when this process (or the server that it is a fork of) imported the module.
    """
    if not isinstance(inspect.getattr_static(cls, "world_size", None), property):
        cls.world_size = spec.world_size


def _configure_torch(spec: LaunchSpec) -> None:
    import torch
    import torch.distributed

    torch.set_num_threads(spec.threads)
    if torch.distributed.is_available():
        # torch reads this when it is loaded, which for a fork was in another environment.
        from torch._C._distributed_c10d import set_debug_level_from_env

        set_debug_level_from_env()

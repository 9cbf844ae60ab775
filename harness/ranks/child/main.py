"""The entry point of a rank: apply the launch spec, run the test, report the outcome.

The life of the process, with the messages of `harness.ranks.messages`:

    forked or spawned
        |                   own process group, output, signals, lifeline; `Rank` is made
        v
    begin_test  <---------------------------------------------+
        |                   apply the spec, find the class    |
        v                                                     |
    begin_body              -> Ready (first test only)        |
        |                   run the body                      |
        v                                                     |
    report                  -> Report                         |
        |                   <- MayLeave, if it waits for it   |
        v                                                     |
    next_spec               -> Waits  (if may_stay)           |
        |                   <- RunTest -----------------------+
        v                   <- Leave
    goodbye                 -> Goodbye, then exit; 0 only if the body passed

In a property test, `examples.serve` runs the body once for each RunExample.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from operator import attrgetter
from typing import Any, NoReturn

from harness.model import settings
from harness.model.expectation import is_accepting
from harness.model.importing import imports_without_gc
from harness.model.marks import RANKS
from harness.model.module_sources import import_from
from harness.model.outcome import Passed, Raised, Skipped
from harness.model.skips import TEST_ERROR_EXIT_CODE
from harness.model.spec import WORLD_VARIABLE, LaunchSpec
from harness.ranks import this_rank
from harness.ranks.child import debugger, examples, listener, warning_filters
from harness.ranks.child.node_environment import environ_of_place, take_place
from harness.ranks.child.rank import Rank
from harness.ranks.launch import open_files, preload, process, quit_key
from harness.ranks.launch.preload import forget_exit_handlers_of_the_server
from harness.ranks.launch.preload_plan import DROPIN_MODULE
from harness.ranks.launch.process import become, write_to
from harness.ranks.leftovers import mark_forks
from harness.ranks.logs import STREAMS, log_path, stacks_path
from harness.ranks.messages import Goodbye
from harness.ranks.problems import problem_of
from harness.ranks.process_exit import exit_code_of, join_threads_and_run_exit_handlers, leave


def rank_main(
    spec: LaunchSpec, rank: int, connection: Connection, outputs: Sequence[Connection]
) -> NoReturn:
    """Run tests as one rank, and exit the process; with 0 only if the last body passed.

    Args:
        spec: the launch spec of the first test.
        rank: the rank.
        connection: the channel to the parent.
        outputs: where to send stdout and stderr; if empty, to their log files.
    """
    code = 1
    try:
        _run_rank(spec, rank, connection, outputs)
        code = 0
    except SystemExit as request:
        code = exit_code_of(request)
    except BaseException:
        traceback.print_exc()
    finally:
        leave(code)


def _run_rank(
    spec: LaunchSpec, number: int, connection: Connection, outputs: Sequence[Connection]
) -> None:
    os.setpgid(0, 0)
    quit_key.unblock()
    if settings.SCHEDULING in settings.TUNING.value(spec.surroundings.environ):
        process.let_threads_finish()
    process.attach()
    mark = mark_forks(spec.world_folder)
    _redirect_output(spec, number, outputs)
    faulthandler.enable()
    listener.register_stacks_signal(stacks_path(spec.world_folder, number))
    forget_exit_handlers_of_the_server()
    open_files.reopen()
    rank = Rank(number, connection)
    this_rank.set_for_process(rank)
    known = len(sys.modules)
    try:
        following: LaunchSpec | None = spec
        while following is not None:
            known = len(sys.modules)
            _run_test(following, rank)
            if not rank.may_stay:
                break
            following = rank.next_spec(_imported_since(known))
    finally:
        join_threads_and_run_exit_handlers()
        rank.pipe.send(Goodbye(_imported_since(known)))
        mark.close()


def _imported_since(known: int) -> tuple[str, ...]:
    return tuple(sys.modules)[known:]  # sys.modules is in import order


def _run_test(spec: LaunchSpec, rank: Rank) -> None:
    """Run one test; return if it passed, or was skipped in a reused rank."""
    rank.begin_test(spec)
    with _reporting(rank):
        _apply_spec(spec, rank)
        if settings.TIMELINE.value():
            rank.keep_time()
        cls = _find_class(spec)
        _configure_torch(spec)
        _fix_what_was_launched(cls, spec)
        rank.store.begin_test(spec)
        debugger.attach(rank)
        if is_accepting():
            from harness.ranks import expectations

            expectations.install()
        if spec.warnings is not None:
            # After the harness's own imports, whose warnings are not the test's.
            warning_filters.begin(rank.pipe, spec.warnings)
        rank.groups.begin_test(spec.test_id, stays=spec.stays)
        if spec.stays:
            rank.state.begin_test()
        rank.begin_body()
        ranks = getattr(cls, RANKS)

        def run(file_name: str) -> None:
            ranks.enter(cls, rank.number, spec.method, file_name, rank, **spec.extras)
            if rank.outcome is None:
                raise RuntimeError(
                    f"{spec.qualname}._run() returned without running the test: "
                    "an override must call self.run_test(test_name, parent_pipe)"
                )

        if spec.has_examples:
            examples.serve(rank, run)
        else:
            run(spec.file_name)


@contextlib.contextmanager
def _reporting(rank: Rank) -> Iterator[None]:
    """Report any exception of the class's hooks, and exit with PyTorch's code for it."""
    try:
        yield
    except SystemExit as leaving:
        # Either run_test() has reported the outcome and exits with PyTorch's code for it, or the
        # test has called sys.exit(), and the exit code is the outcome.
        if rank.may_stay and isinstance(rank.outcome, Skipped):
            return
        rank.report_exit(leaving)
        raise
    except BaseException:
        rank.report(Raised((problem_of(sys.exc_info()),)))
    if not isinstance(rank.outcome, Passed):
        sys.exit(TEST_ERROR_EXIT_CODE)


def _redirect_output(spec: LaunchSpec, rank: int, outputs: Sequence[Connection]) -> None:
    """Redirect stdout and stderr, including native code's output, to the log files or the pipes."""
    for number, stream in enumerate(STREAMS):
        if outputs:
            target = os.dup(outputs[number].fileno())
            outputs[number].close()
        else:
            path = log_path(spec.world_folder, rank, stream)
            target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        write_to(stream, target)


def _apply_spec(spec: LaunchSpec, rank: Rank) -> None:
    """Apply the parent's current environment, folder and arguments."""
    place = environ_of_place(spec, rank.number)
    environ = {**spec.surroundings.environ, **place, WORLD_VARIABLE: spec.world_folder}
    become(replace(spec.surroundings, environ=environ))
    rank.local_rank = take_place(spec, rank.number)


def _find_class(spec: LaunchSpec) -> Any:
    # Only a spawned process imports torch here. Elsewhere the context would make the garbage of
    # earlier tests permanent: it ends with gc.freeze().
    with contextlib.nullcontext() if "torch" in sys.modules else imports_without_gc():
        if settings.DROPIN.value():
            importlib.import_module(DROPIN_MODULE)
        module = import_from(spec.module, spec.sources)
    if spec.module == "__main__" and (why := preload.error_of("__main__")):
        raise RuntimeError(
            f"ranks cannot import class {spec.qualname}: in their processes, the script is not the "
            f"main program, and importing it fails:\n{why}"
        )
    try:
        return attrgetter(spec.qualname)(module)
    except AttributeError:
        raise RuntimeError(
            f"class {spec.qualname} is not found in module {spec.module} by a new process: define "
            "test classes at module level, or bind classes that are made there to their name"
        ) from None


def _fix_what_was_launched(cls: Any, spec: LaunchSpec) -> None:
    """Set the class's world size and timeout to those of the launch spec.

    A class attribute may be computed from the command line or the environment. These may have been
    different when this process, or its fork server, imported the module.
    """
    for name in ("world_size", "timeout_s", "isolation"):
        if not isinstance(inspect.getattr_static(cls, name, None), property):
            setattr(cls, name, getattr(spec, name))


def _configure_torch(spec: LaunchSpec) -> None:
    import torch
    import torch.distributed

    torch.set_num_threads(spec.threads)
    if torch.distributed.is_available():
        # torch reads TORCH_DISTRIBUTED_DEBUG when it is loaded (torch 2.13). A fork server loads it
        # in its own environment, so without this a fork would ignore the variable.
        from torch._C._distributed_c10d import set_debug_level_from_env

        set_debug_level_from_env()

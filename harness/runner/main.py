"""The entry point of the command line: options, files, environment, exit code."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from harness.model import settings
from harness.model.errors import HarnessError
from harness.model.expectation import ACCEPT_VARIABLE
from harness.model.installed_torch import use_installed_torch
from harness.model.misspelt_settings import warn_of_misspelt_settings
from harness.model.torchrun_environ import TorchrunPlace, torchrun_place
from harness.ranks.class_lookup import check_main
from harness.ranks.launch.preload_plan import DROPIN_MODULE
from harness.ranks.process_exit import join_threads_and_run_exit_handlers, leave
from harness.runner import prewarm
from harness.runner.command_line import parse
from harness.runner.options import EXIT_FAILED, EXIT_PASSED, EXIT_USAGE, Options, jobs_for
from harness.runner.selection.checkout import dotted, files_of_checkout, use_defaults
from harness.runner.selection.files import TestFile, absolute, files_for, remark_on_folders
from harness.runner.workers.worker_spec import Wanted


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line, and end the process with its exit code.

    Args:
        argv: program name and arguments; by default those of the process.
    """
    program, *arguments = sys.argv if argv is None else argv
    name = os.path.basename(program)
    prog = "python -m harness" if name == "__main__.py" else name
    # os._exit() below skips nothing that matters: exit handlers run in
    # `end_as_an_interpreter_does`.
    code = _exit_code_of(lambda: _command(arguments, prog), prog)
    join_threads_and_run_exit_handlers()
    leave(code)


def run_main_module(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the tests of `__main__` and exit; for `run_tests()` at the end of a test file."""
    program, *arguments = sys.argv if argv is None else argv

    name = os.path.basename(program)

    def run() -> int:
        with _report_once():
            options = parse(arguments, name)
            if _is_for_rank_0(options):
                return EXIT_PASSED
            _export_settings(options)
            place = _place_for(options)
        if place is None and jobs_for(options, is_script=True):
            check_main()  # workers import the script, as ranks do
            prewarm.prewarm_for_script()
        wanted = Wanted((), options.names, options.patterns, is_script=True)
        return _run_here_or_in_world(place, options, wanted)

    sys.exit(_exit_code_of(run, name))


def _exit_code_of(run: Callable[[], int], prog: str) -> int:
    """Call `run` and return its exit code; print errors and return their codes."""
    for stream in (sys.stdout, sys.stderr):
        # Names and messages may have characters that the terminal's encoding lacks. Without this,
        # printing them raises UnicodeEncodeError and ends the run.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = run()
        _flush_stdout()
    except BrokenPipeError:
        _discard_stdout()  # the reader has closed the pipe, as `| head` does
        code = EXIT_FAILED
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        what = error.filename or "the output"
        _print_error(f"{prog}: {what} could not be written: {error.strerror}")
        _discard_stdout()
        code = EXIT_FAILED
    except KeyboardInterrupt:
        _print_error("interrupted")
        code = EXIT_FAILED
    except HarnessError as error:
        if str(error):  # an empty message: another process of this world reports the error
            _print_error(f"{prog}: {error}")
        code = EXIT_USAGE
    return code


def _place_of_process() -> TorchrunPlace | None:
    """Return this process's rank and world as torchrun has set them; None if there are none."""
    try:
        return torchrun_place()
    except HarnessError:  # the code that needs the place reports the error
        return None


@contextlib.contextmanager
def _report_once() -> Iterator[None]:
    """Print help and errors once, although all processes of torchrun run into them.

    Only rank 0 prints help. An error may concern one host (a file is missing there), so the first
    process of each host prints it and fails. The others exit with 0: torchrun kills all processes
    after the first failure, perhaps before the error has been printed.
    """
    place = _place_of_process()
    silent = io.StringIO() if place is not None and place.rank else sys.stdout
    try:
        with contextlib.redirect_stdout(silent):
            yield
    except HarnessError:
        if place is not None and place.local_world_size is not None and place.local_rank:
            raise SystemExit(EXIT_PASSED) from None
        raise


def _is_for_rank_0(options: Options | None = None) -> bool:
    """Whether this process leaves the command to rank 0 of torchrun's processes.

    Args:
        options: the options of a run, which all processes take part in, except for --list and
            --compare; None for another command.
    """
    place = _place_of_process()
    if place is None or place.rank == 0:
        return False
    # With --shard auto, each process has its own tests to list.
    is_alone = options is None or options.list_only or options.compare
    return is_alone and not (options is not None and options.shards_by_process)


# What a stream raises if a test has closed it or replaced it with None.
_UNUSABLE = (AttributeError, OSError, ValueError)
# The errors of a disk that is full or broken, or of a file that may not grow.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def _flush_stdout() -> None:
    try:
        sys.stdout.flush()
    except _UNUSABLE as error:
        if isinstance(error, OSError) and error.errno != errno.EBADF:
            raise


def _discard_stdout() -> None:
    """Redirect stdout to nowhere: Python flushes it at exit, and would fail again."""
    with contextlib.suppress(*_UNUSABLE):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_error(text: str) -> None:
    with contextlib.suppress(*_UNUSABLE):
        print(text, file=sys.stderr)


def _command(arguments: Sequence[str], prog: str) -> int:
    if arguments and arguments[0] in {"history", "merge-reports"} and _is_for_rank_0():
        return EXIT_PASSED
    if arguments and arguments[0] == "history":
        from harness.runner.history.command import run_history

        return run_history(arguments[1:], prog)
    if arguments and arguments[0] == "merge-reports":
        from harness.runner.merging import run_merge

        return run_merge(arguments[1:], prog)
    with _report_once():
        options = parse(arguments, prog)
    return EXIT_PASSED if _is_for_rank_0(options) else _run(options)


def _run(options: Options) -> int:
    if options.compare:
        from harness.runner.compare import compare

        settings.check_all()
        return compare(options)
    with _report_once():
        _export_settings(options)
        files = _files(options)
        place = _place_for(options)
    if passed_over := use_installed_torch():
        print(f"the torch in {passed_over} is not built: using the installed one", file=sys.stderr)
    jobs = jobs_for(options, is_script=False) if place is None else 0
    if not options.list_only:
        # As early as possible: the fork server takes seconds to import torch, and this process has
        # other work meanwhile.
        prewarm.prewarm(files, with_workers=jobs > 0)
    # With workers, each of them imports this module.
    if settings.DROPIN.value() and not jobs:
        importlib.import_module(DROPIN_MODULE)
    names, remark = dotted(options.names), ""
    if options.checkout is None:
        names, remark = absolute(options.names), remark_on_folders(options.names)
    remarks = (remark,) if remark else ()
    wanted = Wanted(tuple(files), names, options.patterns, remarks=remarks)
    return _run_here_or_in_world(place, options, wanted)


def _place_for(options: Options) -> TorchrunPlace | None:
    """Return this process's rank and world if the run uses torchrun's processes; otherwise None."""
    if torchrun_place() is None:
        return None
    from harness.runner import torchrun

    return torchrun.place_for(options)


def _run_here_or_in_world(place: TorchrunPlace | None, options: Options, wanted: Wanted) -> int:
    if place is not None:
        from harness.runner import torchrun

        return torchrun.run(place, options, wanted)
    from harness.runner.execution import Execution

    return Execution(options, wanted).run()


def _files(options: Options) -> list[TestFile]:
    """Return the test files, and set up the environment that their import needs."""
    if options.checkout is None:
        return files_for(options.names)
    from harness.ranks import folders

    files = files_of_checkout(options.checkout, options.names)
    use_defaults(folders.session_folder() / "pytorch")
    if not options.with_torchs:
        settings.DROPIN.set(True)
    return files


def _export_settings(options: Options) -> None:
    # Settings are environment variables, which workers and ranks inherit.
    settings.check_all()
    warn_of_misspelt_settings(lambda text: print(f"warning: {text}", file=sys.stderr))
    if options.seed is not None:
        settings.SEED.set(options.seed)
    if options.timeout_s is not None:
        settings.TIMEOUT_S.set(options.timeout_s)
    if options.isolation is not None:
        settings.ISOLATION.set(options.isolation)
    if options.audit is not None:
        settings.AUDIT.set(options.audit)
    if options.accept:
        os.environ[ACCEPT_VARIABLE] = "1"
    if options.live_output:
        settings.LIVE_OUTPUT.set(True)
    if options.insecure_world:
        settings.INSECURE_WORLD.set(True)
    if options.wants_timeline:
        settings.TIMELINE.set(True)

"""The command line's way into a run: options, files, what has to be in place, exit code."""

from __future__ import annotations

import contextlib
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
from harness.model.misspelt_settings import tell_misspelt
from harness.model.torchrun_environ import TorchrunPlace, given_place
from harness.ranks.class_lookup import check_main
from harness.ranks.launch.preload_plan import DROPIN_MODULE
from harness.ranks.process_exit import end_as_an_interpreter_does, leave
from harness.runner import prewarm
from harness.runner.command_line import parse
from harness.runner.options import EXIT_FAILED, EXIT_PASSED, EXIT_USAGE, Options, jobs_for
from harness.runner.selection.checkout import dotted, files_of_checkout, use_defaults
from harness.runner.selection.files import TestFile, absolute, files_for, remark_on_folders
from harness.runner.workers.worker_spec import Wanted


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run what the command line asks for, and end the process.

    Args:
        argv: program name and arguments; by default those of the process.
    """
    program, *arguments = sys.argv if argv is None else argv
    name = os.path.basename(program)
    prog = "python -m harness" if name == "__main__.py" else name
    code = _guarded(lambda: _command(arguments, prog), prog)
    end_as_an_interpreter_does()
    leave(code)


def run_main_module(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the tests of `__main__`, as `run_tests()` at the end of a test file does, and exit."""
    program, *arguments = sys.argv if argv is None else argv

    name = os.path.basename(program)

    def run() -> int:
        with _told_once():
            options = parse(arguments, name)
            if _is_for_rank_0(options):
                return EXIT_PASSED
            _set_what_ranks_must_know(options)
            place = _place_for(options)
        if place is None and jobs_for(options, is_script=True):
            check_main()  # workers import the script, as ranks do
            prewarm.prewarm_for_script()
        wanted = Wanted((), options.names, options.patterns, is_script=True)
        return _carry_out(place, options, wanted)

    sys.exit(_guarded(run, name))


def _guarded(run: Callable[[], int], prog: str) -> int:
    """The exit code of a run, whatever becomes of it."""
    for stream in (sys.stdout, sys.stderr):
        # A name or a message may have characters that the terminal's encoding lacks.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = run()
        _flush_stdout()
    except BrokenPipeError:
        # Whoever read the output has had enough of it, as `| head` does.
        with contextlib.suppress(*_UNUSABLE):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_FAILED
    except KeyboardInterrupt:
        _complain("interrupted")
        code = EXIT_FAILED
    except HarnessError as error:
        if str(error):  # else somebody else says it
            _complain(f"{prog}: {error}")
        code = EXIT_USAGE
    return code


def _place_of_process() -> TorchrunPlace | None:
    """The place that torchrun has given this process, whatever the run makes of it."""
    try:
        return given_place()
    except HarnessError:  # told by whoever needs the place
        return None


@contextlib.contextmanager
def _told_once() -> Iterator[None]:
    """Show help and errors that all processes of torchrun come to alike only once.

    Help is rank 0's. An error may be one of a host (a file is missing there): the first process of
    each host tells it and fails. The others end with 0: torchrun kills all processes at the first
    failure, and the one that tells might not have told yet.
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
    """Whether this is not rank 0 of torchrun's processes, and only rank 0 does what is asked for.

    Args:
        options: of a run, of which rank 0 does alone what is not running tests; None for another
            command.
    """
    place = _place_of_process()
    if place is None or place.rank == 0:
        return False
    # With --shard auto, each process has a list of its own.
    is_alone = options is None or options.list_only or options.compare
    return is_alone and not (options is not None and options.splits_given_world)


# What a stream raises that a test has replaced by None, or closed.
_UNUSABLE = (AttributeError, OSError, ValueError)


def _flush_stdout() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except _UNUSABLE:
        return


def _complain(text: str) -> None:
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
    with _told_once():
        options = parse(arguments, prog)
    return EXIT_PASSED if _is_for_rank_0(options) else _run(options)


def _run(options: Options) -> int:
    if options.compare:
        from harness.runner.compare import compare

        settings.check_all()
        return compare(options)
    with _told_once():
        _set_what_ranks_must_know(options)
        files = _files(options)
        place = _place_for(options)
    if passed_over := use_installed_torch():
        print(f"the torch in {passed_over} is not built: using the installed one", file=sys.stderr)
    jobs = jobs_for(options, is_script=False) if place is None else 0
    if not options.list_only:
        prewarm.prewarm(files, with_workers=jobs > 0)
    if settings.DROPIN.value() and not jobs:
        importlib.import_module(DROPIN_MODULE)
    names, remark = dotted(options.names), ""
    if options.checkout is None:
        names, remark = absolute(options.names), remark_on_folders(options.names)
    remarks = (remark,) if remark else ()
    wanted = Wanted(tuple(files), names, options.patterns, remarks=remarks)
    return _carry_out(place, options, wanted)


def _place_for(options: Options) -> TorchrunPlace | None:
    """The place of this process in a world that torchrun has given, if the run is to use it."""
    if given_place() is None:
        return None
    from harness.runner import torchrun

    return torchrun.place_for(options)


def _carry_out(place: TorchrunPlace | None, options: Options, wanted: Wanted) -> int:
    if place is not None:
        from harness.runner import torchrun

        return torchrun.run(place, options, wanted)
    from harness.runner.execution import Execution

    return Execution(options, wanted).run()


def _files(options: Options) -> list[TestFile]:
    """The files to look into, with what has to be in place before they are imported."""
    if options.checkout is None:
        return files_for(options.names)
    from harness.ranks import folders

    files = files_of_checkout(options.checkout, options.names)
    use_defaults(folders.session_folder() / "pytorch")
    if not options.with_torchs:
        settings.DROPIN.set(True)
    return files


def _set_what_ranks_must_know(options: Options) -> None:
    settings.check_all()
    tell_misspelt(lambda text: print(f"warning: {text}", file=sys.stderr))
    if options.seed is not None:
        settings.SEED.set(options.seed)
    if options.timeout_s is not None:
        settings.TIMEOUT_S.set(options.timeout_s)
    if options.isolation is not None:
        settings.ISOLATION.set(options.isolation)
    if options.accept:
        os.environ[ACCEPT_VARIABLE] = "1"
    if options.live_output:
        settings.LIVE_OUTPUT.set(True)
    if options.insecure_world:
        settings.INSECURE_WORLD.set(True)
    if options.wants_timeline:
        settings.TIMELINE.set(True)

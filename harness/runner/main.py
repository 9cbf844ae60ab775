"""The command line's way through a run: options, discovery, execution, summary, exit code."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import unittest
import warnings
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from harness.model import settings
from harness.model.errors import HarnessError
from harness.model.installed_torch import use_installed_torch
from harness.ranks import folders
from harness.ranks.leaving import end_as_an_interpreter_does, leave
from harness.ranks.plan import DROPIN_MODULE
from harness.runner import discovery, warming
from harness.runner.checkout import dotted, files_of_checkout, use_defaults
from harness.runner.compare import compare
from harness.runner.console import Console
from harness.runner.discovery import Loaded
from harness.runner.files import TestFile, files_for
from harness.runner.options import (
    EXIT_FAILED,
    EXIT_NOTHING_RAN,
    EXIT_PASSED,
    EXIT_USAGE,
    Options,
    parse,
)
from harness.runner.results import (
    RecordingResult,
    RunResult,
    Status,
    TestRecord,
    Trouble,
    write_results,
)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run what the command line asks for, and end the process.

    Args:
        argv: program name and arguments; by default those of the process.
    """
    program, *arguments = sys.argv if argv is None else argv
    name = os.path.basename(program)
    code = _guarded(
        lambda: _run(parse(arguments, "python -m harness" if name == "__main__.py" else name))
    )
    end_as_an_interpreter_does()
    leave(code)


def run_main_module(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the tests of `__main__`, as `run_tests()` at the end of a test file does, and exit."""
    program, *arguments = sys.argv if argv is None else argv

    def run() -> int:
        options = parse(arguments, os.path.basename(program))
        loaded = Loaded({"__main__": discovery.tests_of(sys.modules["__main__"])})
        return _execute(loaded, discovery.select(loaded, options.names, options.patterns), options)

    sys.exit(_guarded(run))


def _guarded(run: Callable[[], int]) -> int:
    """The exit code of a run, whatever becomes of it."""
    try:
        code = run()
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has had enough of it, as `| head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_FAILED
    except HarnessError as error:
        print(f"{os.path.basename(sys.argv[0])}: {error}", file=sys.stderr)
        code = EXIT_USAGE
    return code


def _run(options: Options) -> int:
    if options.compare:
        return compare(options)
    files = _files(options)
    if passed_over := use_installed_torch():
        print(f"the torch in {passed_over} is not built: using the installed one", file=sys.stderr)
    if not options.list_only:
        warming.prewarm(files)
    if settings.DROPIN.value():
        importlib.import_module(DROPIN_MODULE)
    loaded = discovery.load(files)
    names = options.names if options.checkout is None else dotted(options.names)
    tests = discovery.select(loaded, names, options.patterns, files)
    return _execute(loaded, tests, options)


def _files(options: Options) -> list[TestFile]:
    """The files to look into, with what has to be in place before they are imported."""
    if options.checkout is None:
        return files_for(options.names)
    files = files_of_checkout(options.checkout, options.names)
    use_defaults(folders.session_folder() / "pytorch")
    if not options.with_torchs:
        settings.DROPIN.set(True)
    return files


def _execute(loaded: Loaded, tests: Sequence[unittest.TestCase], options: Options) -> int:
    console = Console(options.verbose or options.live_output)
    if options.list_only:
        return _list(loaded, tests, console)
    _set_what_ranks_must_know(options)
    run = RunResult()
    _record_modules(loaded, run, console)
    _run_tests(tests, run, console, options)
    console.summary(run)
    if options.results is not None:
        write_results(run, options.results)
    return run.exit_code


def _set_what_ranks_must_know(options: Options) -> None:
    if options.seed is not None:
        settings.SEED.set(options.seed)
    if options.timeout_s is not None:
        settings.TIMEOUT_S.set(options.timeout_s)
    if options.isolation is not None:
        settings.ISOLATION.set(options.isolation)
    if options.live_output:
        settings.LIVE_OUTPUT.set(True)


def _list(loaded: Loaded, tests: Sequence[unittest.TestCase], console: Console) -> int:
    for test in tests:
        console.say(test.id())
    for module, text in loaded.broken.items():
        print(f"{module} cannot be imported:\n{text}", file=sys.stderr)
    if loaded.broken:
        return EXIT_FAILED
    return EXIT_PASSED if tests else EXIT_NOTHING_RAN


def _record_modules(loaded: Loaded, run: RunResult, console: Console) -> None:
    """Records for the modules that gave no tests, with the reason."""
    for name, text in loaded.broken.items():
        trouble = Trouble("ERROR", f"import of {name}", text)
        run.records.append(TestRecord(name, Status.FAILED, troubles=[trouble]))
    for name, reason in loaded.skipped.items():
        run.records.append(TestRecord(name, Status.SKIPPED, reason=reason))
    for record in run.records:
        console.finished(record)


def _run_tests(
    tests: Sequence[unittest.TestCase], run: RunResult, console: Console, options: Options
) -> None:
    planned = [test.id() for test in tests]
    result = RecordingResult(run, planned, console.finished)
    result.failfast = options.failfast
    before = len(run.records)
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("default")
            unittest.TestSuite(tests).run(result)
    except KeyboardInterrupt:
        run.interrupted = True
    finally:
        signal.signal(signal.SIGTERM, previous)
    ran = {record.test_id for record in run.records[before:]}
    run.not_run = sum(test_id not in ran for test_id in planned)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends a run as Ctrl-C does: the ranks are ended and what has run is reported."""
    raise KeyboardInterrupt

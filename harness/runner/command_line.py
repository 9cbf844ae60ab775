"""The options of the command line: the parser, the help text, and the options that conflict."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from typing import Any

from harness._version import __version__
from harness.model import settings
from harness.model.communication import AUDIT_LEVELS
from harness.model.errors import UsageError
from harness.model.spec import ISOLATIONS
from harness.runner import arguments
from harness.runner.options import (
    EXIT_FAILED,
    EXIT_NOTHING_RAN,
    EXIT_PASSED,
    EXIT_USAGE,
    Options,
)
from harness.runner.reports.text import shortened
from harness.runner.selection.shard_auto import settle

_EPILOG = f"""\
names:
  a folder or file (suites, suites/test_ddp_gloo.py), something inside a file
  (suites/test_ddp_gloo.py::TestDDP::test_cpu), a dotted name (suites.test_ddp_gloo,
  suites.test_ddp_gloo.TestDDP.test_cpu), or the end of one (TestDDP, TestDDP.test_cpu, test_cpu)

while it runs:
  Ctrl-C stops it and reports what has run, Ctrl-C twice stops it at once; SIGUSR1, or Ctrl-\\ on a
  terminal, prints where every running rank is

past runs:
  {{prog}} history shows the slowest, the flakiest and the newly failing tests

several machines:
  torchrun --nnodes N --nproc-per-node M -m harness ... runs rank tests on all of them together;
  --shard gives each machine a part of the tests; {{prog}} merge-reports merges their reports

exit codes:
  {EXIT_PASSED}  at least one test ran and nothing failed
  {EXIT_FAILED}  something failed, a test did not run, or the run was stopped
  {EXIT_USAGE}  the command line is invalid
  {EXIT_NOTHING_RAN}  no test ran: nothing was found, or everything was skipped
"""


# argparse quotes unknown arguments in full, however long they are.
_MAX_ERROR = 500
# No option is longer; comparing a longer text would take long.
_MAX_OPTION = 40


class Parser(argparse.ArgumentParser):
    """Raises UsageError instead of exiting, so that torchrun's processes can report once."""

    def error(self, message: str) -> None:  # type: ignore[override]
        text = shortened(" ".join(message.split()), _MAX_ERROR)
        raise UsageError(f"{text}{self._nearest_option(message)} (see {self.prog} --help)")

    def _nearest_option(self, message: str) -> str:
        """Return a suggestion if the message is about an option that does not exist."""
        prefix, _, rest = message.partition("unrecognized arguments: ")
        unknown = rest.split("=")[0].split()[:1]
        if prefix or not unknown or len(unknown[0]) > _MAX_OPTION:
            return ""
        known = [name for action in self._actions for name in action.option_strings]
        near = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.75)
        return f"; did you mean {near[0]}?" if near else ""


def build_parser(prog: str) -> Parser:
    """Return the parser of the options. `--help` and the manual's page of options come from it."""
    parser = Parser(
        prog=prog,
        description="Run unittest suites, with or without ranks.",
        epilog=_EPILOG.replace("{prog}", prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for add in (_add_selection, _add_execution, _add_limits, _add_output, _add_torchs):
        add(parser)
    parser.add_argument("--version", action="version", version=f"harness {__version__}")
    return parser


def parse(argv: Sequence[str], prog: str) -> Options:
    """Return the options in the arguments after the program's name. Raises UsageError."""
    parser = build_parser(prog)
    found = vars(parser.parse_args(argv))
    if found.pop("failfast"):
        found["max_fail"] = 1
    settle(found)
    found["names"], found["patterns"] = tuple(found["names"]), tuple(found["patterns"])
    options = Options(**found)
    for is_wrong, message in (*_conflicts(options), _conflict_with_compare(options, parser)):
        if is_wrong:
            parser.error(message)
    return options


def _add_selection(parser: Parser) -> None:
    group = parser.add_argument_group("Select and order tests")
    group.add_argument(
        "names",
        nargs="*",
        type=arguments.name,
        metavar="NAME",
        help="tests to run (default: all suites)",
    )
    group.add_argument(
        "-k",
        type=arguments.pattern,
        action="append",
        default=[],
        metavar="PATTERN",
        dest="patterns",
        help="run only tests whose name contains PATTERN, or matches it as a wildcard; case does "
        "not matter; combine patterns with and, or, not and parentheses; may be repeated",
    )
    group.add_argument(
        "--list",
        action="store_true",
        dest="list_only",
        help="print the names of the tests, and run nothing",
    )
    group.add_argument(
        "--rerun-failed", action="store_true", help="run only tests that failed last time"
    )
    group.add_argument(
        "--failed-first", action="store_true", help="run tests that failed last time first"
    )
    group.add_argument(
        "--shard",
        type=arguments.shard,
        metavar="K/N",
        help="run the Kth of N parts of about equal duration, judged by past runs; auto: take K "
        "and N from a Slurm array, torchrun, srun, GitLab, CircleCI or Buildkite",
    )
    group.add_argument(
        "--shuffle", action="store_true", help="run in random order, determined by --seed"
    )
    group.add_argument(
        "--repeat", type=arguments.positive, default=1, metavar="N", help="run every test N times"
    )
    group.add_argument(
        "--stress",
        type=arguments.seconds,
        dest="stress_s",
        metavar="SECONDS",
        help="repeat the selected tests until SECONDS have passed",
    )


def _add_execution(parser: Parser) -> None:
    group = parser.add_argument_group("Run tests")
    group.add_argument(
        "-j",
        "--jobs",
        type=arguments.jobs,
        metavar="N",
        help="run N tests at once, each in a worker process (default: twice the cores, at most 16; "
        "1 with --torch-checkout); 0 runs all tests in this process, for debugging",
    )
    group.add_argument(
        "--max-ranks",
        type=arguments.positive,
        metavar="N",
        help="have at most N ranks alive at once (default: 8 per core); a test that needs more "
        "runs while no other test has ranks",
    )
    group.add_argument(
        "--devices",
        type=arguments.device_list,
        metavar="LIST",
        help="devices (GPUs) that tests may use, separated by commas (default: all)",
    )
    group.add_argument(
        "--isolation",
        choices=ISOLATIONS,
        help="what a test shares with the one before it: nothing (process), the processes (group), "
        f"or these and their process group (none) (default: {settings.ISOLATION.default})",
    )
    group.add_argument(
        "--audit",
        choices=AUDIT_LEVELS,
        help="how closely to check that what the ranks communicate fits together (default: "
        f"{settings.AUDIT.default}); docs/audit.md",
    )
    group.add_argument(
        "--seed",
        type=arguments.seed,
        metavar="N",
        help=f"seed of all random generators (default: {settings.SEED.default})",
    )
    group.add_argument(
        "--accept",
        action="store_true",
        help="update the texts that tests expect: assertExpectedInline edits the source, "
        "assertExpected writes its file",
    )
    group.add_argument(
        "--retries",
        type=arguments.natural,
        default=0,
        metavar="N",
        help="retry a failing test up to N times, in a fresh process with fresh ranks; if it then "
        "passes, it is flaky",
    )
    group.add_argument(
        "--flaky",
        choices=("pass", "fail"),
        dest="flaky_fails",
        default=False,
        action=_Flaky,
        help="whether flaky tests pass or fail the run (default: pass)",
    )
    group.add_argument(
        "--insecure-world",
        action="store_true",
        help="under torchrun or srun, let processes join without a secret; anybody who can connect "
        "to rank 0's host can then run code as you (docs/scaling.md)",
    )


def add_max_skips(parser: argparse._ActionsContainer) -> None:
    """Add the option `--max-skips`, which a run and `merge-reports` share."""
    parser.add_argument(
        "--max-skips",
        type=arguments.natural,
        metavar="N",
        help="fail the run if more than N tests and sub-tests are skipped (default: no limit)",
    )


def _add_limits(parser: Parser) -> None:
    group = parser.add_argument_group("Stop a test or the run")
    group.add_argument("-f", "--failfast", action="store_true", help="stop at the first failure")
    group.add_argument(
        "--maxfail",
        type=arguments.positive,
        metavar="N",
        dest="max_fail",
        help="stop after N failures",
    )
    add_max_skips(group)
    group.add_argument(
        "--timeout",
        type=arguments.seconds,
        metavar="SECONDS",
        dest="timeout_s",
        help="time limit for the body of a rank test, unless the test or its class has one "
        f"(default: {settings.TIMEOUT_S.default:g}); the failure shows the ranks' stacks",
    )
    group.add_argument(
        "--test-timeout",
        type=arguments.seconds,
        metavar="SECONDS",
        dest="test_timeout_s",
        help="time limit for a whole test, with or without ranks; the report says where the "
        "test was (default: no limit)",
    )
    group.add_argument(
        "--run-timeout",
        type=arguments.seconds,
        metavar="SECONDS",
        dest="run_timeout_s",
        help="time limit for the whole run: running tests are ended, the others do not start, and "
        "the run fails (default: no limit)",
    )


def _add_output(parser: Parser) -> None:
    group = parser.add_argument_group("Show and report")
    group.add_argument("-v", "--verbose", action="store_true", help="print a line for every test")
    group.add_argument(
        "-s",
        action="store_true",
        dest="live_output",
        help="show the output of tests and ranks while they run, each line with its rank; runs one "
        "test at a time unless -j is given",
    )
    group.add_argument(
        "--slow-after",
        type=arguments.seconds_or_zero,
        default=Options.slow_s,
        metavar="SECONDS",
        dest="slow_s",
        help=f"report tests that run longer than this (default: {Options.slow_s:g}; 0: never)",
    )
    for name, text in {
        "--junit": "write a report in JUnit XML",
        "--html": "write a report as one HTML file, with timelines of the ranks",
        "--trace": "write a trace for Perfetto or chrome://tracing",
        "--records": "write all data of the run, for merge-reports",
    }.items():
        group.add_argument(name, type=arguments.path, metavar="PATH", help=text)
    group.add_argument(
        "--history",
        type=arguments.path,
        metavar="PATH",
        help="the file with durations and outcomes of past runs (default: in your cache folder)",
    )
    group.add_argument(
        "--no-history",
        action="store_false",
        dest="keeps_history",
        help="do not read or write the history",
    )


def _add_torchs(parser: Parser) -> None:
    group = parser.add_argument_group("Run tests for PyTorch's own harness")
    group.add_argument(
        "--torch-checkout",
        type=arguments.path,
        metavar="DIR",
        dest="checkout",
        help="run test files of this PyTorch checkout (or folder of such tests), unchanged, with "
        "ranks of this harness; NAMEs that are files count from its folder test/",
    )
    group.add_argument(
        "--compare",
        action="store_true",
        help="run each file under PyTorch's harness too, and print the tests whose verdicts differ",
    )
    group.add_argument("--json", action="store_true", help="print the comparison as JSON")
    hidden: dict[str, dict[str, Any]] = {
        "--with-torchs": {"action": "store_true"},
        "--results": {"metavar": "FILE", "type": arguments.path},
    }
    for name, kwargs in hidden.items():
        parser.add_argument(name, help=argparse.SUPPRESS, **kwargs)


def _conflicts(options: Options) -> list[tuple[bool, str]]:
    alone = options.jobs == 0
    return [
        (options.compare and not options.checkout, "--compare needs --torch-checkout DIR"),
        (options.json and not options.compare, "--json needs --compare"),
        (
            options.accept and (options.jobs or 0) > 1,
            "--accept edits test files, which only one test at a time may do: leave out -j",
        ),
        (alone and options.retries > 0, "--retries needs worker processes; -j 0 has none"),
        (
            alone and options.test_timeout_s is not None,
            "--test-timeout needs worker processes; -j 0 has none",
        ),
        (
            options.repeat > 1 and options.stress_s is not None,
            "--repeat and --stress cannot be combined: both set how often tests run",
        ),
        (
            options.rerun_failed and options.failed_first,
            "--rerun-failed and --failed-first cannot be combined: only failed tests run",
        ),
        (
            options.failed_first and options.shuffle,
            "--failed-first and --shuffle cannot be combined: both set the order",
        ),
        (
            not options.keeps_history
            and (options.rerun_failed or options.failed_first or options.history is not None),
            "--no-history cannot be combined with --history, --rerun-failed or --failed-first",
        ),
        (
            options.flaky_fails and not options.retries,
            "--flaky=fail needs --retries N: without retries, no test is known to be flaky",
        ),
        (
            options.list_only and options.wants_timeline,
            "--list runs no tests, so --junit, --html and --trace have nothing to report",
        ),
    ]


# The options that --compare passes on to its two sides; it rejects all others.
_COMPARED = {"checkout", "compare", "isolation", "jobs", "json", "names", "patterns", "seed"}
_COMPARED |= {"run_timeout_s", "timeout_s"}


def _conflict_with_compare(options: Options, parser: Parser) -> tuple[bool, str]:
    """Return whether an option is set that --compare does not support, and the message."""
    for action in parser._actions:
        name = action.dest
        has_default = getattr(options, name, None) == getattr(Options, name, None)
        if options.compare and name not in _COMPARED and not has_default:
            option = action.option_strings[-1]
            return True, f"--compare does not support {option}"
    return False, ""


class _Flaky(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        setattr(namespace, self.dest, values == "fail")

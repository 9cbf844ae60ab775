"""The command `merge-reports`: one report, and one verdict, from the reports of several shards."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from harness.model.errors import UsageError
from harness.runner import arguments
from harness.runner.command_line import Parser, add_max_skips
from harness.runner.console import Console
from harness.runner.options import EXIT_FAILED
from harness.runner.reports.junit_input import read_junit
from harness.runner.reports.records import read_records
from harness.runner.reports.text import shortened
from harness.runner.reports.writing import check_reports, write_reports
from harness.runner.results import RunResult, TestRecord

# How many missing shards a message lists.
_MAX_MISSING = 20


def run_merge(argv: Sequence[str], prog: str) -> int:
    """Merge reports, and print the summary of all of them.

    Args:
        argv: the arguments after the word `merge-reports`.
        prog: the program as the user calls it.

    Returns:
        the exit code that one run of all the tests would have had; 1 if shards are missing or do
        not belong together.

    Raises:
        UsageError: if the arguments are wrong, or a file is not such a report.
    """
    options = build_parser(f"{prog} merge-reports").parse_args(argv)
    reports = check_reports(options.junit, options.html, options.trace, options.records)
    _keep_inputs(options.inputs, reports)
    # All inputs are read before anything is written, so a damaged input costs nothing.
    runs = [_read(path) for path in options.inputs]
    wrong = _shard_problems(options.inputs, runs)
    run = merged(runs)
    run.max_skips = options.max_skips
    run.remarks += wrong
    unwritten = write_reports(run, **reports)
    run.remarks += unwritten
    console = Console()
    console.summary(run)
    return EXIT_FAILED if wrong or unwritten or console.problem else run.exit_code


def build_parser(prog: str) -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(
        prog=prog,
        description="Merge the reports of several shards into one, and check that none is missing.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        type=arguments.path,
        metavar="FILE",
        help="a report that --records wrote (everything) or --junit (no timelines of ranks)",
    )
    add_max_skips(parser)
    group: argparse._ArgumentGroup = parser.add_argument_group("Write reports")
    for name, text in {
        "--junit": "JUnit XML",
        "--html": "one HTML file",
        "--trace": "a trace for Perfetto or chrome://tracing",
        "--records": "a file for merging again",
    }.items():
        group.add_argument(name, type=arguments.path, metavar="PATH", help=text)
    return parser


def _keep_inputs(inputs: Sequence[str], reports: Mapping[str, Path]) -> None:
    """Raise UsageError if a report would overwrite an input, also through a link."""
    for option, path in reports.items():
        for name in inputs:
            with contextlib.suppress(OSError):  # one of the two files does not exist
                if os.path.samefile(path, name):
                    raise UsageError(
                        f"--{option} {path} would overwrite {shortened(name, 200)}, which is an "
                        "input: name another file"
                    )


def _read(name: str) -> RunResult:
    path = Path(name)
    try:
        with path.open("rb") as file:
            # By content, not by suffix: users choose the names of reports.
            is_xml = file.read(64).lstrip().startswith(b"<")
        return read_junit(path) if is_xml else read_records(path)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{shortened(name, 200)} cannot be merged: {why}") from error


def merged(runs: Sequence[RunResult]) -> RunResult:
    """Return the runs as one run, with times since its start and workers numbered on."""
    # Each run's monotonic clock has its own zero, so the common clock is the time of day.
    began_at = min(run.started_at for run in runs)
    whole = RunResult(started_at=began_at, started_s=0.0)
    workers = 0
    for run in runs:
        later_s = run.started_at - began_at - run.started_s
        for record in run.records:
            _shift(record, later_s, workers)
        whole.records += run.records
        # Shards run at the same time, so their durations do not add up.
        whole.seconds = max(whole.seconds, run.started_at - began_at + run.seconds)
        whole.not_run += run.not_run
        whole.interrupted = whole.interrupted or run.interrupted
        whole.jobs += run.jobs
        whole.remarks += [line for line in run.remarks if line not in whole.remarks]
        workers += max([run.jobs, *(record.worker for record in run.records)])
    whole.records.sort(key=lambda record: (record.owner, record.is_fixture, record.key))
    whole.seed = runs[0].seed
    whole.command = "; ".join(dict.fromkeys(run.command for run in runs))
    return whole


def _shift(record: TestRecord, later_s: float, workers: int) -> None:
    """Move a record and its ranks' tracks to another clock, and to other worker numbers."""
    for each in (record, *record.earlier):
        each.started_s += later_s
        each.worker += workers
        each.ranks = tuple(track.later(later_s) for track in each.ranks)


def _shard_problems(names: Sequence[str], runs: Sequence[RunResult]) -> list[str]:
    """Return the reasons why these are not all shards of one plan, each once; empty if they are."""
    lines: list[str] = []
    plans = dict.fromkeys(run.shard_plan for run in runs)
    counts = {run.shard[1] for run in runs}
    if len(plans) > 1 or len(counts) > 1:
        text = (f"{name}: {_describe_shard(run)}" for name, run in zip(names, runs, strict=True))
        lines.append(f"these are not shards of one plan: {'; '.join(text)}")
    elif runs[0].shard[1] > 1:
        found = Counter(run.shard[0] for run in runs)
        absent = (str(n) for n in range(1, max(counts) + 1) if n not in found)
        missing = list(islice(absent, _MAX_MISSING))
        if max(counts) - len(found) > len(missing):
            missing.append(f"and {max(counts) - len(found) - len(missing)} more")
        twice = [str(number) for number, times in sorted(found.items()) if times > 1]
        lines += [f"missing: shard {', '.join(missing)} of {max(counts)}"] if missing else []
        lines += [f"given twice: shard {', '.join(twice)}"] if twice else []
    tests = Counter(record.key for run in runs for record in run.records)
    several = [test for test, times in tests.items() if times > 1 and not _is_repeated(test, runs)]
    lines += [f"in several of the reports: {test}" for test in several]
    return lines


def _describe_shard(run: RunResult) -> str:
    number, count = run.shard
    return f"shard {number}/{count} of plan {run.shard_plan}" if count > 1 else "no shard"


def _is_repeated(key: str, runs: Sequence[RunResult]) -> bool:
    """Whether a name may occur several times: --repeat in one run, or a fixture in several."""
    owners = [run for run in runs if any(record.key == key for record in run.records)]
    return len(owners) == 1 or TestRecord(key).is_fixture

"""The command `history`: print slow, flaky and newly failing tests, as tables or as JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

from harness.diagnosis.words import count
from harness.runner import arguments
from harness.runner.command_line import Parser
from harness.runner.history.file import READ_ONLY
from harness.runner.history.history import History, open_history
from harness.runner.history.trends import Flaky, NewlyFailing, Slow, Trends
from harness.runner.options import EXIT_PASSED, EXIT_USAGE
from harness.runner.reports.text import one_line

_LIMIT = 10


def run_history(arguments: Sequence[str], prog: str) -> int:
    """Print the history of the tests.

    Args:
        arguments: the arguments after the word `history`.
        prog: the program as the user calls it: `run_tests.py`, `python -m harness`.

    Returns:
        the exit code: 2 if the file cannot be read.

    Raises:
        UsageError: if the arguments are wrong.
    """
    options = build_parser(f"{prog} history").parse_args(arguments)
    history = open_history(options.history)
    trends = history.trends(options.limit)
    if history.fault not in (None, READ_ONLY):
        print(_refusal(history), file=sys.stderr)
        return EXIT_USAGE
    print(_json(history, trends) if options.json else _text(history, trends))
    return EXIT_PASSED


def build_parser(prog: str) -> Parser:
    """Return the parser of the options; `--help` and the manual's page of options come from it."""
    parser = Parser(
        prog=prog,
        description="Show which tests are slow, which are flaky, and which have begun to fail.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--history",
        type=arguments.path,
        metavar="PATH",
        help="the history file (default: the current folder's, in your cache folder)",
    )
    parser.add_argument(
        "--limit",
        type=arguments.positive,
        default=_LIMIT,
        metavar="N",
        help=f"number of tests in a table (default: {_LIMIT})",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _refusal(history: History) -> str:
    assert history.fault is not None
    return f"history: {history.path} {history.fault.what}{history.fault.advice}"


def _json(history: History, trends: Trends) -> str:
    return json.dumps({"history": str(history.path), **asdict(trends)}, indent=2)


def _text(history: History, trends: Trends) -> str:
    if not trends.runs:
        return f"no runs have been recorded in {history.path} yet"
    tables = (_slowest(trends.slowest), _flakiest(trends.flakiest), _new(trends.newly_failing))
    return "\n\n".join((f"{count(trends.runs, 'run')} in {history.path}", *tables))


def _slowest(found: Sequence[Slow]) -> str:
    rows = [
        (one_line(s.test_id), f"{s.expected_s:.2f} s", f"{s.last_s:.2f} s", _percent(s.trend))
        for s in found
    ]
    return _table(("slowest", "median", "last", "trend"), rows)


def _flakiest(found: Sequence[Flaky]) -> str:
    if not found:
        return "flakiest: none"
    rows = [(one_line(f.test_id), str(f.runs), str(f.flaky), str(f.flips)) for f in found]
    return _table(("flakiest", "runs", "flaky", "flips"), rows)


def _new(found: Sequence[NewlyFailing]) -> str:
    if not found:
        return "newly failing: none"
    rows = [(one_line(n.test_id), _moment(n.since_s), _moment(n.passed_s)) for n in found]
    head, *lines = _table(("newly failing", "since", "passed"), rows).splitlines()
    return "\n".join(
        (head, *(f"{line}\n    {one_line(n.why)}" for line, n in zip(lines, found, strict=True)))
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table: the first column left-aligned, the others right-aligned."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(_line(line, widths) for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = cells
    numbers = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
    return "  ".join((first.ljust(widths[0]), *numbers)).rstrip()


def _percent(trend: float | None) -> str:
    return "" if trend is None else f"{trend:+.0%}"


def _moment(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at_s))

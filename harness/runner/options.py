"""The command line, as one frozen value."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from harness._version import __version__
from harness.model import settings
from harness.model.errors import UsageError
from harness.model.spec import ISOLATIONS

EXIT_PASSED = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOTHING_RAN = 5

_EPILOG = f"""\
names:
  a folder or file (suites, suites/test_ddp_gloo.py), a dotted name (suites.test_ddp_gloo,
  suites.test_ddp_gloo.TestDDP.test_cpu), or the end of one (TestDDP, TestDDP.test_cpu, test_cpu)

exit codes:
  {EXIT_PASSED}  at least one test ran and nothing failed
  {EXIT_FAILED}  something failed
  {EXIT_USAGE}  the command line cannot be carried out
  {EXIT_NOTHING_RAN}  no test ran: nothing was found, or everything was skipped
"""


@dataclass(frozen=True)
class Options:
    """What the user asked for.

    Attributes:
        names: tests, classes, modules, files and folders; empty for all.
        patterns: of `-k`; a test runs if any of them matches.
        verbose: a line for every test.
        failfast: stop at the first failure.
        list_only: print the names and run nothing.
        seed: seed for all tests; None for the setting's.
        timeout_s: seconds that the body of a rank test may take; None for the setting's.
        isolation: how much of a world tests share; None for the setting's.
        live_output: show what ranks print while they run.
        checkout: folder whose tests were written for PyTorch's own harness; None for ours.
        compare: run them under both harnesses and tell where they differ.
        json: have the comparison as JSON.
        with_torchs: run them under PyTorch's harness only.
        results: file for a JSON line about each test; None for none.
    """

    names: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    verbose: bool = False
    failfast: bool = False
    list_only: bool = False
    seed: int | None = None
    timeout_s: float | None = None
    isolation: str | None = None
    live_output: bool = False
    checkout: str | None = None
    compare: bool = False
    json: bool = False
    with_torchs: bool = False
    results: str | None = None


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(f"{message} (see {self.prog} --help)")


def _seconds(text: str) -> float:
    try:
        return settings.seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None


def parse(argv: Sequence[str], prog: str) -> Options:
    """Options from the arguments after the program's name. Raises UsageError."""
    parser = Parser(
        prog=prog,
        description="Run test suites, with or without ranks.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="what to run (default: all suites)"
    )
    parser.add_argument(
        "-k",
        action="append",
        default=[],
        metavar="PATTERN",
        dest="patterns",
        help="only tests whose name contains PATTERN or matches it as a wildcard; may be repeated",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="a line for every test")
    parser.add_argument("-f", "--failfast", action="store_true", help="stop at the first failure")
    parser.add_argument(
        "--list", action="store_true", dest="list_only", help="print the names of the tests only"
    )
    parser.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help=f"seed of all random generators (default: {settings.SEED.default})",
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        dest="timeout_s",
        help="what the body of a rank test may take, where neither the test nor its class says "
        f"(default: {settings.TIMEOUT_S.default:g})",
    )
    parser.add_argument(
        "--isolation",
        choices=ISOLATIONS,
        help="how much of a world a test shares with the one before it: nothing, its processes, or "
        f"these and their process group (default: {settings.ISOLATION.default})",
    )
    parser.add_argument(
        "-s",
        action="store_true",
        dest="live_output",
        help="show what ranks print while they run, each line with its rank in front",
    )
    torch = parser.add_argument_group("tests for PyTorch's own harness")
    torch.add_argument(
        "--torch-checkout",
        metavar="DIR",
        dest="checkout",
        help="run test files of this PyTorch checkout (or folder of such tests), unchanged, with "
        "ranks of this harness; NAMEs that are files count from its folder test/",
    )
    torch.add_argument(
        "--compare",
        action="store_true",
        help="run each file under PyTorch's harness too, and tell which verdicts differ",
    )
    torch.add_argument("--json", action="store_true", help="print the comparison as JSON")
    for hidden, kwargs in (
        ("--with-torchs", {"action": "store_true"}),
        ("--results", {"metavar": "FILE"}),
    ):
        parser.add_argument(hidden, help=argparse.SUPPRESS, **kwargs)  # type: ignore[arg-type]
    parser.add_argument("--version", action="version", version=f"harness {__version__}")
    found = vars(parser.parse_args(argv))
    if found["compare"] and not found["checkout"]:
        parser.error("--compare needs --torch-checkout DIR")
    if found["json"] and not found["compare"]:
        parser.error("--json needs --compare")
    found["names"], found["patterns"] = tuple(found["names"]), tuple(found["patterns"])
    return Options(**found)

"""`python -m harness.bench NAME`: measure, print a table or JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from harness.bench import (
    audit,
    faults,
    isolation,
    properties,
    runner,
    seeds,
    sizes,
    soak,
    start,
    torchrun,
)
from harness.bench.table import Report


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m harness.bench", description=__doc__)
    benchmarks = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for module in (
        start,
        sizes,
        isolation,
        audit,
        properties,
        runner,
        seeds,
        faults,
        soak,
        torchrun,
    ):
        sub = benchmarks.add_parser(module.NAME, help=module.HELP, description=module.HELP)
        sub.add_argument("--json", action="store_true", help="print JSON instead of a table")
        module.add_arguments(sub)
        sub.set_defaults(measure=module.measure)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark that the command line names."""
    options = build_parser().parse_args(argv)
    report: Report = options.measure(options)
    print(json.dumps(report.data(), indent=2) if options.json else report.text())


if __name__ == "__main__":
    main()

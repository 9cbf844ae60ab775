"""Check the requested reports before the run, and write them after it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from harness.model.errors import UsageError
from harness.runner.reports.junit import write_junit
from harness.runner.reports.page import write_html
from harness.runner.reports.paths import check_writable
from harness.runner.reports.records import write_records, write_results
from harness.runner.reports.trace import write_trace
from harness.runner.results import RunResult

_Path = str | os.PathLike[str]
_WRITERS: dict[str, Callable[[RunResult, _Path], None]] = {
    "--junit": write_junit,
    "--html": write_html,
    "--trace": write_trace,
    "--records": write_records,
    "--results": write_results,
}


def check_reports(
    junit: str | None = None,
    html: str | None = None,
    trace: str | None = None,
    records: str | None = None,
    results: str | None = None,
) -> dict[str, Path]:
    """Check all report paths before anything runs.

    Returns:
        name of an argument of `write_reports` to absolute path, for each requested report.

    Raises:
        UsageError: if a path cannot be written, or two options name the same file.
    """
    asked = {
        "junit": junit,
        "html": html,
        "trace": trace,
        "records": records,
        "results": results,
    }
    found: dict[str, Path] = {}
    for name, path in asked.items():
        if path is None:
            continue
        target = check_writable(path, f"--{name}")
        for other, taken in found.items():
            if taken == target:
                raise UsageError(f"--{other} and --{name} both name {path}")
        found[name] = target
    return found


def write_reports(
    run: RunResult,
    junit: _Path | None = None,
    html: _Path | None = None,
    trace: _Path | None = None,
    records: _Path | None = None,
    results: _Path | None = None,
) -> list[str]:
    """Write the requested reports.

    Returns:
        a line for each report that could not be written; the run must then not exit with 0.
    """
    asked = {
        "--junit": junit,
        "--html": html,
        "--trace": trace,
        "--records": records,
        "--results": results,
    }
    lines = [_complaint(run, option, path) for option, path in asked.items() if path is not None]
    return [line for line in lines if line]


def _complaint(run: RunResult, option: str, path: _Path) -> str:
    try:
        _WRITERS[option](run, path)
    # Any exception: the tests have run, and the other reports still have to be written.
    except Exception as error:
        why = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        return f"{option}: {os.fspath(path)} could not be written: {' '.join(why.split())}"
    return ""

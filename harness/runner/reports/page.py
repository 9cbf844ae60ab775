"""Write one HTML file about a run: the failures, and a timeline of every rank."""

from __future__ import annotations

import base64
import hashlib
import os
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness._version import __version__
from harness.runner.reports.page_data import detail_of, embedded, overview_of, rows_of
from harness.runner.reports.paths import replace
from harness.runner.reports.text import visible
from harness.runner.results import RunResult, Status

if TYPE_CHECKING:
    from jinja2 import Template

_FOLDER = Path(__file__).parent
_SCRIPTS = ("elements.js", "picture.js", "ranks.js", "detail.js", "page.js")


def write_html(run: RunResult, path: str | os.PathLike[str]) -> None:
    """Write a run as a page that needs no network. Raises OSError if it cannot be written."""
    replace(path, html_of(run).encode())


def html_of(run: RunResult) -> str:
    """Return the page. Texts from tests are escaped, or are data that never becomes markup."""
    # The browser runs only the script with this hash, so markup in a test's output cannot run one.
    script = _script()
    return _template().render(
        **_summary(run),
        rows=rows_of(run),
        style=(_FOLDER / "page.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=_hash(script),
        overview=embedded([overview_of(run)]),
        details=embedded(detail_of(record) for record in run.records),
    )


@cache
def _template() -> Template:
    # Imported here, since most runs write no report.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        # All text comes from tests. StrictUndefined: a misspelled name in the template must not
        # become an empty cell.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(duration=duration, number=number)
    return environment.get_template("page.html")


def duration(seconds: float) -> str:
    """Format a duration for people: `0.052 s`, `12.3 s`, `3 min 20 s`."""
    if seconds < 10:
        return f"{seconds:.3f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def number(count: int) -> str:
    return f"{count:,}"


def _summary(run: RunResult) -> dict[str, Any]:
    started = datetime.fromtimestamp(run.started_at).astimezone()
    return {
        "counts": {status.value: run.count(status) for status in Status},
        "flaky": sum(record.is_flaky for record in run.records),
        "unfinished": sum(record.status is None for record in run.records),
        "bad": run.exit_code != 0,
        "not_run": run.not_run,
        "interrupted": run.interrupted,
        "command": visible(run.command),
        "seed": run.seed,
        "jobs": run.jobs,
        "seconds": run.seconds,
        "started": started.strftime("%Y-%m-%d %H:%M:%S %Z").strip(),
        "started_iso": started.isoformat(timespec="seconds"),
        "version": __version__,
    }


def _script() -> str:
    """Return the page's whole script, so that one hash covers all of it."""
    parts = [(_FOLDER / name).read_text(encoding="utf-8") for name in _SCRIPTS]
    return '(() => {\n"use strict";\n' + "\n".join(parts) + "})();"


def _hash(script: str) -> str:
    """Return the script's hash for the Content Security Policy, which blocks any other script."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

"""All that is known of a run, in a file from which any report can be made: for `merge-reports`."""

from __future__ import annotations

import json
import os
from pathlib import Path

from harness.runner.reports.paths import replace
from harness.runner.results import RunResult, record_from_data

_FORMAT = "harness records 1"
_PLAIN = (
    "not_run",
    "interrupted",
    "started_at",
    "started_s",
    "seconds",
    "command",
    "seed",
    "jobs",
    "shard_plan",
    "remarks",
)


def write_records(run: RunResult, path: str | os.PathLike[str]) -> None:
    """Write a run's records. Raises OSError if the file cannot be written."""
    data = {name: getattr(run, name) for name in _PLAIN}
    data["shard"] = list(run.shard)
    data["records"] = [record.to_data() for record in run.records]
    replace(path, json.dumps({"format": _FORMAT, **data}, separators=(",", ":")).encode())


def read_records(path: Path) -> RunResult:
    """The inverse of `write_records`. Raises OSError, ValueError if it is no such file."""
    data = json.loads(path.read_bytes())
    if not isinstance(data, dict) or data.get("format") != _FORMAT:
        raise ValueError("it was not written by --records")
    try:
        records = [record_from_data(each) for each in data["records"]]
        plain = {name: data[name] for name in _PLAIN}
        return RunResult(records, shard=(data["shard"][0], data["shard"][1]), **plain)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"it is damaged ({error!r})") from error

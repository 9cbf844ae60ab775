"""Write and read all data of a run as JSON, from which `merge-reports` can make any report."""

from __future__ import annotations

import json
import os
from pathlib import Path

from harness.runner.reports.paths import replace
from harness.runner.results import RunResult, record_from_data
from harness.runner.shapes import check_fields, fields_of

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
    """Return the run from a file that `write_records` has written.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is not such a file, or is damaged; the message says where.
    """
    content = path.read_bytes()
    try:
        data = json.loads(content)
        if not isinstance(data, dict) or data.pop("format", None) != _FORMAT:
            raise ValueError("it was not written by --records")
        # Check everything before use: a truncated or edited file must not become a run that passed.
        fields = fields_of(RunResult)
        wanted = {name: fields[name] for name in (*_PLAIN, "shard", "records")}
        check_fields(data, wanted, "its run", required=list(wanted))
        records = [record_from_data(each) for each in data.pop("records")]
    except RecursionError:
        raise ValueError("it is not JSON of --records: it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not text ({error})") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON ({error})") from None
    number, count = data.pop("shard")
    if not 1 <= number <= count:
        raise ValueError(f"its run.shard is {number} of {count}, which is not a valid shard")
    return RunResult(records, shard=(number, count), **data)


def write_results(run: RunResult, path: str | os.PathLike[str]) -> None:
    """Write a line of JSON about each test: name, status, why it did not pass, seconds.

    Raises:
        OSError: if the file cannot be written.
    """
    lines = []
    for record in run.records:
        status = record.status.value if record.status else ""
        line = {"test": record.key, "status": status, "why": record.why, "seconds": record.seconds}
        lines.append(json.dumps(line) + "\n")
    replace(path, "".join(lines).encode())

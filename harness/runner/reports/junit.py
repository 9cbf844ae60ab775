"""Write JUnit XML for Jenkins, GitLab and the report actions of GitHub."""

from __future__ import annotations

import io
import os
import platform
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from harness.runner.reports.paths import replace
from harness.runner.reports.text import (
    attempts_of,
    epoch_of,
    name_of,
    shortened,
    status_of,
    visible,
    visible_name,
)
from harness.runner.results import RunResult, Status, TestRecord

if TYPE_CHECKING:
    from junitparser import xunit2
    from junitparser.junitparser import FinalResult

# Length of the attribute `message`, which readers show on one line; the element has the whole text.
_MAX_MESSAGE = 500
#: The name of the property for a skipped subtest. Readers know no element for it.
SKIPPED_SUBTEST = "skipped sub-test"
_TYPE = re.compile(r"[A-Za-z_][\w.]*(?=:|$)")


def write_junit(run: RunResult, path: str | os.PathLike[str]) -> None:
    """Write a run as JUnit XML. Raises OSError if the file cannot be written."""
    replace(path, junit_xml(run))


def junit_xml(run: RunResult) -> bytes:
    """Return the XML: a suite for each class, a case for each test."""
    # Imported here, since most runs write no report.
    from junitparser import xunit2

    # A suite for each class: readers show suites as folders.
    by_owner: dict[str, list[TestRecord]] = {}
    for record in run.records:
        by_owner.setdefault(record.owner or record.test_id, []).append(record)
    xml = xunit2.JUnitXml("harness")
    xml.extend([_suite(run, owner, records) for owner, records in by_owner.items()])
    xml.update_statistics()
    xml.time = round(run.seconds, 3)
    file = io.BytesIO()
    xml.write(file)
    return file.getvalue()


def _suite(run: RunResult, owner: str, records: list[TestRecord]) -> xunit2.TestSuite:
    from junitparser import xunit2

    suite = xunit2.TestSuite(visible_name(owner))
    started = min(epoch_of(run, record.started_s) for record in records)
    # In UTC and without a zone: the schema of Ant, which defined the format, does not allow a zone.
    suite.timestamp = datetime.fromtimestamp(started, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    suite.hostname = visible(platform.node()) or "localhost"
    for name, value in _run_properties(run):
        suite.add_property(name, visible(value))
    suite.extend([_case(owner, record) for record in records])
    return suite


def _run_properties(run: RunResult) -> Iterator[tuple[str, str]]:
    yield from (("command", run.command), ("seed", str(run.seed)), ("jobs", str(run.jobs)))
    if run.shard != (1, 1):
        yield "shard", "/".join(map(str, run.shard))
        yield "shard plan", run.shard_plan
    if run.interrupted:
        yield "interrupted", "true"
    if run.not_run:
        yield "not run", str(run.not_run)


def _case(owner: str, record: TestRecord) -> xunit2.TestCase:
    from junitparser import xunit2

    case = xunit2.TestCase(
        visible_name(name_of(record)), visible_name(owner), round(max(0.0, record.seconds), 3)
    )
    for name, value in _properties(record):
        case.add_property(visible(name), visible(value))
    # The order is the schema's: the result, then earlier attempts, then the output.
    case.extend(_final_results(record))
    case.extend([_interim_result(attempt, record.is_flaky) for attempt in record.earlier])
    _print_into(case, record)
    return case


def _properties(record: TestRecord) -> Iterator[tuple[str, str]]:
    if record.worker:
        yield "worker", str(record.worker)
    if record.ranks:
        yield "ranks", str(len(record.ranks))
    if record.earlier:
        yield "attempts", str(len(attempts_of(record)))
        yield "flaky", str(record.is_flaky).lower()
    if record.status is Status.PASSED and record.reason:
        yield "reason", record.reason
    for subtest in record.skipped_subtests:
        yield SKIPPED_SUBTEST, f"{subtest.title}: {subtest.reason}"
    for note in record.notes:
        yield note.kind, note.text


def _final_results(record: TestRecord) -> list[FinalResult]:
    """Return one element for all failures of a test: readers count elements, but show only one."""
    from junitparser import Error, Failure, Skipped

    if record.status is Status.PASSED:
        return []
    if record.status is Status.SKIPPED:
        return [Skipped(visible(record.reason) or "skipped")]
    kind = Error if _is_error(record) else Failure
    result = kind(_message(record), visible(_type(record)))
    result.text = visible(_troubles(record))
    return [result]


def _interim_result(attempt: TestRecord, flaky: bool) -> xunit2.InterimResult:
    """Return the element for an earlier attempt, with the names of Maven's Surefire plugin."""
    from junitparser import xunit2

    # Jenkins counts a test with these elements as flaky instead of failed.
    kinds = {
        (True, True): xunit2.FlakyError,
        (True, False): xunit2.FlakyFailure,
        (False, True): xunit2.RerunError,
        (False, False): xunit2.RerunFailure,
    }
    result = kinds[flaky, _is_error(attempt)](_message(attempt), visible(_type(attempt)))
    result.stack_trace = visible(_troubles(attempt))
    _print_into(result, attempt)
    return result


def _is_error(record: TestRecord) -> bool:
    """Whether it is an error; an unexpected success counts as a failure, like an assertion."""
    labels = {trouble.label for trouble in record.troubles}
    return "ERROR" in labels or not labels


def _message(record: TestRecord) -> str:
    return visible(shortened(record.why, _MAX_MESSAGE)) or status_of(record)


def _type(record: TestRecord) -> str:
    found = _TYPE.match(record.why)
    return found[0] if found else "".join(t.label for t in record.troubles[:1]) or "unfinished"


def _troubles(record: TestRecord) -> str:
    if [trouble.title for trouble in record.troubles] == [record.key]:
        return record.troubles[0].text
    parts = [f"{t.label}: {t.title}\n{t.text}" for t in record.troubles]
    return "\n\n".join(parts) or "the run ended before the test had"


def _print_into(element: xunit2.TestCase | xunit2.InterimResult, record: TestRecord) -> None:
    """Add the output of the test, then output and stacks of each rank."""
    out = [("", record.stdout)]
    err = [("", record.stderr)]
    for track in record.ranks:
        who = f"rank {track.rank}" + (f" ({track.outcome})" if track.outcome else "")
        out.append((f"{who}: stdout", track.stdout))
        err += [(f"{who}: reason", track.reason), (f"{who}: stderr", track.stderr)]
        err.append((f"{who}: stacks", track.stacks))
    if text := _joined(out):
        element.system_out = text
    if text := _joined(err):
        element.system_err = text


def _joined(parts: list[tuple[str, str]]) -> str:
    texts = []
    for header, text in parts:
        if text:
            texts.append(f"==== {header} ====\n{text}" if header else text)
    return visible("\n".join(text.rstrip("\n") for text in texts))

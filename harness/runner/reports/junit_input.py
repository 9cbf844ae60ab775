"""Read JUnit XML that this harness has written, for `merge-reports`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.model.settings import quoted, whole_number
from harness.runner.reports.junit import SKIPPED_SUBTEST
from harness.runner.reports.text import original_name
from harness.runner.results import (
    RunResult,
    SkippedSubtest,
    Status,
    TestRecord,
    Trouble,
    with_outcome,
)
from harness.runner.shapes import check

_FIXTURES = ("setUpClass", "tearDownClass", "setUpModule", "tearDownModule")


def read_junit(path: Path) -> RunResult:
    """Return the run from the report, without ranks, and with start times rounded to seconds.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is not such a report, or is damaged.
    """
    from junitparser import JUnitXmlError, xunit2

    try:
        xml = xunit2.JUnitXml.fromfile(str(path))
    # An unknown encoding raises LookupError.
    except (SyntaxError, JUnitXmlError, ValueError, LookupError) as error:
        raise ValueError(f"it is not JUnit XML ({error})") from error
    if getattr(xml, "name", None) != "harness":
        raise ValueError("it is JUnit XML of another program")
    try:
        run = _run(xml)
    except (AttributeError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"it is damaged ({error!r})") from error
    # A truncated or edited file must not turn failures into passes: compare with the totals.
    suites = list(xml)
    found = (len(run.records), run.count(Status.FAILED), run.count(Status.SKIPPED))
    totals = (
        xml.tests or 0,
        sum((suite.failures or 0) + (suite.errors or 0) for suite in suites),
        sum(suite.skipped or 0 for suite in suites),
    )
    if found != totals:
        names = "tests, failures and skips"
        raise ValueError(
            f"it is damaged (its totals of {names} are {totals}, but it contains {found})"
        )
    return run


def _run(xml: Any) -> RunResult:
    run = RunResult(started_s=0.0, started_at=0.0)
    starts: list[float] = []
    for suite in xml:
        began_at = _epoch(suite.timestamp)
        starts.append(began_at)
        _take_properties(run, {each.name: each.value or "" for each in suite.properties()})
        run.records += [_record(case, began_at) for case in suite]
    # JUnit has a time for each class, not for each test, so tests start with their class.
    run.started_at = min(starts, default=0.0)
    run.seconds = _seconds(xml, "the report")
    for record in run.records:
        record.started_s -= run.started_at
    return run


def _epoch(text: str | None) -> float:
    try:
        return datetime.fromisoformat(text or "").replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _seconds(element: Any, what: str) -> float:
    """Return an element's time. Raises ValueError if it is not a valid number of seconds."""
    try:
        seconds = float(element.time or 0.0)
    except ValueError as error:
        raise ValueError(f"the time of {what} is not a number ({error})") from None
    check(seconds, float, f"the time of {what}")
    if seconds < 0:
        raise ValueError(f"the time of {what} is {seconds}, not 0 or more")
    return seconds


def _number(text: str, what: str, low: int = 0) -> int:
    try:
        return whole_number(low, 2**64)(text)
    except ValueError as error:
        raise ValueError(f"its {what} is {quoted(text)}, which {error}") from None


def _take_properties(run: RunResult, found: dict[str, str]) -> None:
    run.command = found.get("command", run.command)
    run.seed = _number(found.get("seed", str(run.seed)), "seed", -(2**63))
    run.jobs = _number(found.get("jobs", str(run.jobs)), "number of jobs")
    run.not_run = _number(found.get("not run", str(run.not_run)), "number of tests not run")
    run.interrupted = run.interrupted or found.get("interrupted") == "true"
    number, _, count = found.get("shard", "1/1").partition("/")
    run.shard = (_number(number, "shard", 1), _number(count, "number of shards", 1))
    if run.shard[0] > run.shard[1]:
        raise ValueError(f"its shard is {number} of {count}, which is not a valid shard")
    run.shard_plan = found.get("shard plan", "")


def _record(case: Any, began_at: float) -> TestRecord:
    owner, name = original_name(case.classname or ""), original_name(case.name or "")
    test_id = f"{name} ({owner})" if name in _FIXTURES else f"{owner}.{name}".strip(".")
    record = TestRecord(test_id, seconds=_seconds(case, test_id), started_s=began_at)
    record.stdout, record.stderr = case.system_out or "", case.system_err or ""
    record.worker = _number(_property(case, "worker") or "0", f"worker of {test_id}")
    skipped = [each.value or "" for each in case.properties() if each.name == SKIPPED_SUBTEST]
    record.skipped_subtests = [SkippedSubtest(text, "") for text in skipped]
    _take_result(record, case)
    # Surefire's elements for retried tests: flakyFailure, rerunError and so on.
    for interim in case.interim_result:
        text = interim.stack_trace or interim.message or ""
        label = "ERROR" if type(interim).__name__.endswith("Error") else "FAIL"
        trouble = Trouble(label, test_id, text)
        record.earlier.append(TestRecord(test_id, Status.FAILED, troubles=[trouble]))
    # An edited case may have both a failure and a skip. It fails, as in every other reader.
    return with_outcome(record)


def _property(case: Any, name: str) -> str:
    return next((each.value or "" for each in case.properties() if each.name == name), "")


def _take_result(record: TestRecord, case: Any) -> None:
    from junitparser import Error, Failure, Skipped

    record.status = Status.PASSED
    record.reason = _property(case, "reason")
    for result in case.result:
        if isinstance(result, Skipped):
            record.status, record.reason = Status.SKIPPED, result.message or ""
        elif isinstance(result, Error | Failure):
            label = "ERROR" if isinstance(result, Error) else "FAIL"
            text = result.text or result.message or ""
            record.troubles.append(Trouble(label, record.test_id, text))

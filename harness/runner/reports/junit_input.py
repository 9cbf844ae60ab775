"""Reading back a report in JUnit's XML that this harness has written: what it has kept of a run."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from harness.runner.reports.junit import SKIPPED_SUBTEST
from harness.runner.results import RunResult, SkippedSubtest, Status, TestRecord, Trouble

_FIXTURES = ("setUpClass", "tearDownClass", "setUpModule", "tearDownModule")


def read_junit(path: Path) -> RunResult:
    """The run, as far as the report tells: no ranks, and times to the second.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is no such report.
    """
    from junitparser import JUnitXmlError, xunit2

    try:
        xml = xunit2.JUnitXml.fromfile(str(path))
    except (SyntaxError, JUnitXmlError) as error:
        raise ValueError(f"it is no JUnit XML ({error})") from error
    if xml.name != "harness":
        raise ValueError("it is JUnit XML of another program")
    run = RunResult(started_s=0.0, started_at=0.0)
    starts: list[float] = []
    for suite in xml:
        began_at = _epoch(suite.timestamp)
        starts.append(began_at)
        _take_properties(run, {each.name: each.value for each in suite.properties()})
        run.records += [_record(case, began_at) for case in suite]
    run.started_at = min(starts, default=0.0)
    run.seconds = float(xml.time or 0.0)
    for record in run.records:
        record.started_s -= run.started_at
    return run


def _epoch(text: str | None) -> float:
    try:
        return datetime.fromisoformat(text or "").replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        return 0.0


def _take_properties(run: RunResult, found: dict[str, str]) -> None:
    run.command = found.get("command", run.command)
    run.seed, run.jobs = int(found.get("seed", run.seed)), int(found.get("jobs", run.jobs))
    run.not_run = int(found.get("not run", run.not_run))
    run.interrupted = run.interrupted or found.get("interrupted") == "true"
    number, _, count = found.get("shard", "1/1").partition("/")
    run.shard = (int(number), int(count))
    run.shard_plan = found.get("shard plan", "")


def _record(case: Any, began_at: float) -> TestRecord:
    owner, name = case.classname or "", case.name or ""
    test_id = f"{name} ({owner})" if name in _FIXTURES else f"{owner}.{name}".strip(".")
    record = TestRecord(test_id, seconds=float(case.time or 0.0), started_s=began_at)
    record.stdout, record.stderr = case.system_out or "", case.system_err or ""
    record.worker = int(_property(case, "worker") or 0)
    skipped = [each.value for each in case.properties() if each.name == SKIPPED_SUBTEST]
    record.skipped_subtests = [SkippedSubtest(text, "") for text in skipped]
    _take_result(record, case)
    for interim in case.interim_result:
        text = interim.stack_trace or interim.message or ""
        label = "ERROR" if type(interim).__name__.endswith("Error") else "FAIL"
        trouble = Trouble(label, test_id, text)
        record.earlier.append(TestRecord(test_id, Status.FAILED, troubles=[trouble]))
    return record


def _property(case: Any, name: str) -> str:
    return next((each.value for each in case.properties() if each.name == name), "")


def _take_result(record: TestRecord, case: Any) -> None:
    from junitparser import Error, Failure, Skipped

    record.status = Status.PASSED
    record.reason = _property(case, "reason")
    for result in case.result:
        if isinstance(result, Skipped):
            record.status, record.reason = Status.SKIPPED, result.message or ""
        elif isinstance(result, Error | Failure):
            record.status = Status.FAILED
            label = "ERROR" if isinstance(result, Error) else "FAIL"
            text = result.text or result.message or ""
            record.troubles.append(Trouble(label, record.test_id, text))

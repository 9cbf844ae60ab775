"""What a run prints: a mark or a line for each test, then every failure, the skips, the counts."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TextIO

from harness.runner.results import RunResult, Status, TestRecord

_MARKS = {Status.PASSED: ".", Status.FAILED: "F", Status.SKIPPED: "s"}
_RULE = "-" * 80


class Console:
    """Prints a run to a stream as it goes."""

    def __init__(self, verbose: bool = False, stream: TextIO | None = None) -> None:
        self._verbose = verbose
        self._stream = stream if stream is not None else sys.stdout
        self._owner = ""

    def say(self, text: str = "") -> None:
        print(text, file=self._stream, flush=True)

    def finished(self, record: TestRecord) -> None:
        """A test is done."""
        assert record.status is not None
        if self._verbose:
            reason = f"  ({record.reason})" if record.reason else ""
            self.say(f"{record.status.value:8}{record.seconds:7.2f} s  {record.test_id}{reason}")
            return
        if record.owner != self._owner:
            self._break_line()
            self._owner = record.owner
            self._write(f"{record.owner or record.test_id} ")
        self._write(_MARKS[record.status])

    def summary(self, run: RunResult) -> None:
        """Everything that is said once the tests are done; ends with the counts."""
        self._break_line()
        for record in run.records:
            self._failures(record)
        self._skips(run)
        self._notes(run)
        if run.interrupted:
            self.say("interrupted")
        if run.not_run:
            self.say(f"{run.not_run} not run")
        if not run.records:
            self.say("no tests were found")
        elif run.count(Status.SKIPPED) == len(run.records):
            self.say("nothing ran: every test was skipped")
        self.say(run.counts)

    def _failures(self, record: TestRecord) -> None:
        for trouble in record.troubles:
            self.say(f"\n{_RULE}\n{trouble.label}: {trouble.title}\n{_RULE}\n{trouble.text}")

    def _skips(self, run: RunResult) -> None:
        reasons = Counter(r.reason for r in run.records if r.status is Status.SKIPPED)
        if reasons:
            self.say("\nskipped:")
        for reason, count in reasons.most_common():
            self.say(f"  {count:4}  {reason}")

    def _notes(self, run: RunResult) -> None:
        kinds = Counter(note.kind for record in run.records for note in record.notes)
        for kind, count in kinds.most_common():
            self.say(f"{count} {kind}")

    def _break_line(self) -> None:
        if self._owner:
            self.say()
            self._owner = ""

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

"""Print a run: a line for each class (or test), then every failure, the skips, the counts."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Protocol

from harness.model.clock import Deadline, now
from harness.runner.reports.text import one_line, shortened
from harness.runner.results import RunResult, Status, TestRecord
from harness.runner.workers.schedule import Item

_MARKS = {Status.PASSED: ".", Status.FAILED: "F", Status.SKIPPED: "s"}
_RULE = "-" * 80
# After this time without output, print that the run is still going on: CI systems kill silent jobs.
_HEARTBEAT_S = 30.0
_MAX_WHY = 160


class _Writable(Protocol):
    def write(self, text: str, /) -> int: ...

    def flush(self) -> None: ...


class Console:
    """Prints a run to a stream while it runs, in plain lines.

    Args:
        verbose: print a line for each test instead of a mark.
        slow_s: report a test that takes longer as slow; 0 for never.
        stream: where to print.
        errors: where to print warnings.

    Attributes:
        problem: why output is missing, so that the run must fail; empty if none is.
    """

    def __init__(
        self,
        verbose: bool = False,
        slow_s: float = 0.0,
        stream: _Writable | None = None,
        errors: _Writable | None = None,
    ) -> None:
        self._verbose = verbose
        self._slow_s = slow_s
        self._stream = stream if stream is not None else sys.stdout
        self._errors = errors if errors is not None else sys.stderr
        self.problem = ""
        # For each class, the marks of its tests by (round, number). A fixture has round 0, so its
        # mark comes before them.
        self._marks: dict[str, dict[tuple[int, int], str]] = {}
        self._left: Counter[str] = Counter()
        self._total = 0
        self._done = 0
        self.running: dict[Item, tuple[float, int]] = {}
        self._reported_slow: set[Item] = set()
        self._heartbeat = Deadline.after(_HEARTBEAT_S)

    def expect(self, items: list[Item]) -> None:
        """Announce tests that are about to run."""
        self._total += len(items)
        self._left.update(item.test.owner for item in items)

    # What happens meanwhile

    def began(self, item: Item, worker: int, at_s: float) -> None:
        self.running[item] = (at_s, worker)

    def ended(self, item: Item | None, record: TestRecord) -> None:
        assert record.status is not None
        if self._verbose:
            self.say(_line(record))
            return
        owner = item.test.owner if item is not None else record.owner
        marks = self._marks.setdefault(owner, {})
        place = (item.round, item.number) if item is not None else (0, len(marks))
        marks[place] = "f" if record.is_flaky else _MARKS[record.status]
        if record.status is Status.FAILED:
            self.say(f"FAILED {_shown(record)}")

    def failed_once(self, item: Item, record: TestRecord) -> None:
        self.running.pop(item, None)  # the next attempt is another item
        self.say(f"RETRY  {_shown(record)}")

    def done(self, item: Item) -> None:
        # A test that PyTorch's lists skip is done without having begun.
        self.running.pop(item, None)
        self._done += 1
        owner = item.test.owner
        self._left[owner] -= 1
        self._print_finished()

    def _print_finished(self) -> None:
        """Print finished classes in the order of the plan, up to the first unfinished one."""
        for owner, left in list(self._left.items()):
            if left > 0:
                return
            del self._left[owner]
            if owner in self._marks:
                self._print_class(owner, _in_order(self._marks.pop(owner)))

    def module(self, record: TestRecord) -> None:
        """Print a module without tests; the record has the reason."""
        assert record.status is not None
        if self._verbose:
            self.say(_line(record))
        else:
            self._print_class(record.test_id, _MARKS[record.status])

    def _print_class(self, owner: str, marks: str) -> None:
        self.say(f"{one_line(owner)} {marks}".strip())

    def say(self, text: str = "") -> None:
        # Any output shows that the run is alive.
        self._heartbeat = Deadline.after(_HEARTBEAT_S)
        self._print(text + "\n", self._stream)

    def warn(self, text: str) -> None:
        self._print(text if text.endswith("\n") else text + "\n", self._errors)

    def _print(self, text: str, stream: _Writable) -> None:
        """Print a text; if that fails, note why, so that the run goes on and writes its reports."""
        try:
            print(text, end="", file=stream, flush=True)
        except BrokenPipeError:
            raise  # the reader wants no more: the run ends
        except OSError as error:
            if not self.problem:
                self.problem = f"the output could not be written: {error.strerror or error}"
                self.warn(self.problem)

    def tick(self) -> None:
        for item, (began_s, _) in self.running.items():
            if self._slow_s and now() - began_s > self._slow_s and item not in self._reported_slow:
                self._reported_slow.add(item)
                self.say(f"SLOW   {self._shown_running(item)}")
        if self._is_heartbeat_due():
            self.say(self._heartbeat_text())

    def _is_heartbeat_due(self) -> bool:
        return self._heartbeat.expired

    def _heartbeat_text(self) -> str:
        running = ", ".join(map(self._shown_running, self.running)) or "no test"
        return f"{self._done} of {self._total} done; running: {running}"

    def _shown_running(self, item: Item) -> str:
        ranks = f", {item.test.ranks} ranks" if item.test.ranks else ""
        return f"{one_line(item.test.key)} ({now() - self.running[item][0]:.0f} s{ranks})"

    def hide(self) -> None:
        """Release the terminal while the run is suspended."""

    def show(self) -> None:
        """Use the terminal again: the run continues."""

    def close(self) -> None:
        """Print the classes that are not finished, after the last test has ended."""
        for owner, marks in self._marks.items():
            self._print_class(owner, _in_order(marks))
        self._marks.clear()

    # After the tests

    def summary(self, run: RunResult) -> None:
        """Print failures, skips, remarks and, as the last line, the counts."""
        for record in run.records:
            self._failures(record)
        self._skips(run)
        self._flaky(run)
        self._notes(run)
        for remark in run.remarks:
            self.say(remark)
        if run.interrupted:
            self.say("interrupted")
        if run.not_run:
            self.say(f"{run.not_run} not run")
        elif not run.records and run.found:
            self.say(f"tests found: {run.found}, selected: none")
        elif not run.records:
            self.say("no tests were found")
        elif run.count(Status.SKIPPED) == len(run.records):
            self.say("nothing ran: every test was skipped")
        if run.has_too_many_skips:
            self.say(f"too many skips: {run.skips}, and --max-skips {run.max_skips}: the run fails")
        if run.flaky_fails and run.flaky:
            self.say(f"flaky tests: {run.flaky}, and --flaky fail: the run fails")
        self.say(run.counts)

    def _failures(self, record: TestRecord) -> None:
        for trouble in record.troubles:
            title = one_line(trouble.title)
            self.say(f"\n{_RULE}\n{trouble.label}: {title}\n{_RULE}\n{trouble.text}")
        if record.status is Status.FAILED:
            for name, text in (("stdout", record.stdout), ("stderr", record.stderr)):
                if text.strip():
                    self.say(f"\n{name} of the test's own process:\n{text.rstrip()}")
            if len(record.earlier) > 0:
                self.say(f"\nfailed all {len(record.earlier) + 1} attempts")

    def _skips(self, run: RunResult) -> None:
        reasons = Counter(r.reason for r in run.records if r.status is Status.SKIPPED)
        if reasons:
            self.say("\nskipped:")
        for reason, count in reasons.most_common():
            self.say(f"  {count:4}  {reason}")
        subtests = [subtest for record in run.records for subtest in record.skipped_subtests]
        if subtests:
            self.say("\nskipped sub-tests (their tests ran):")
        for subtest in subtests:
            self.say(f"  {one_line(subtest.title)}  {subtest.reason}".rstrip())

    def _flaky(self, run: RunResult) -> None:
        flaky = [record for record in run.records if record.is_flaky]
        if flaky:
            self.say("\nflaky (failed, then passed):")
        for record in flaky:
            tries, first = len(record.earlier) + 1, shortened(record.earlier[0].why, _MAX_WHY)
            self.say(f"  {one_line(record.key)}  at attempt {tries}; first: {first}")

    def _notes(self, run: RunResult) -> None:
        kinds = Counter(note.kind for record in run.records for note in record.notes)
        for kind, count in kinds.most_common():
            self.say(f"{count} {kind}")
            for text in (n.text for record in run.records for n in record.notes if n.kind == kind):
                self.say(f"  {text}")


def _in_order(marks: dict[tuple[int, int], str]) -> str:
    return "".join(mark for _, mark in sorted(marks.items()))


def _line(record: TestRecord) -> str:
    assert record.status is not None
    word = "flaky" if record.is_flaky else record.status.value
    reason = f"  ({record.reason})" if record.reason else ""
    skipped = len(record.skipped_subtests)
    reason += f"  ({skipped} sub-test{'s' * (skipped > 1)} skipped)" if skipped else ""
    return f"{word:8}{record.seconds:7.2f} s  {one_line(record.key)}{reason}"


def _shown(record: TestRecord) -> str:
    return f"{one_line(record.key)}  {shortened(record.why, _MAX_WHY)}"

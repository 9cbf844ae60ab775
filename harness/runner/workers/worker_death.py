"""Make the records for tests whose worker ended before it could report them."""

from __future__ import annotations

import signal

from harness.model.clock import now
from harness.model.outcome import Killed
from harness.model.rerun import MARK
from harness.runner.results import Status, TestRecord, Trouble, copy_suffix
from harness.runner.workers.schedule import Item
from harness.runner.workers.worker import Worker


def death_record(worker: Worker, item: Item, code: int, limit_s: float | None) -> TestRecord:
    """Return the record of a test whose worker died, or whose time limit expired.

    Args:
        worker: the worker.
        item: the test.
        code: the worker's exit code.
        limit_s: the time limit of the test in seconds; None for no limit.
    """
    # A record in the file says more than the exit code: which descriptor the test has closed.
    if not worker.is_overdue and (left := _last_record(worker)) is not None:
        return left
    if worker.is_overdue:
        told = f"\nwhere it was:\n{worker.where}" if worker.where else ""
        text = f"TestTimedOut: the test timed out after {limit_s:g} s (--test-timeout){told}"
    elif worker.fault:
        text = f"WorkerDied: the runner ended the process that ran the test, {_unreadable(worker)}"
    else:
        text = f"WorkerDied: the process that ran the test ended during it: {exit_text(code)}"
        # Only the runner is supposed to end workers, so tell the reader where else to look.
        if code == -signal.SIGTERM:
            text += "; the runner did not send the signal, so the test or another program did"
    return _record(worker, item, item.test.test_id, item.test.copy, text, worker.began_s)


def stopped_record(worker: Worker, item: Item, by: str) -> TestRecord:
    """Return the record of a test that was running when `by` stopped the run."""
    text = stop_text(by, worker.began_s, worker.where)
    return _record(worker, item, item.test.test_id, item.test.copy, text, worker.began_s)


def stop_text(by: str, began_s: float | None, where: str) -> str:
    """Return the error text for a test that was running when the run was stopped.

    Args:
        by: what stopped the run: Ctrl-C, SIGTERM or --run-timeout.
        began_s: when the test began.
        where: where it was; empty if it did not answer.
    """
    lasted = f", after {now() - began_s:.1f} s" if began_s is not None else ""
    told = f"\nwhere it was:\n{where}" if where else ""
    return f"RunStopped: the run was stopped ({by}) while this test ran{lasted}{told}"


def exit_record(worker: Worker, item: Item, code: int) -> TestRecord:
    """Return the record for a worker that failed to exit normally after its last test, `item`."""
    if (left := _last_record(worker)) is not None:
        return left
    reason = "it did not exit in time" if worker.was_terminated else exit_text(code)
    text = (
        f"WorkerDied: after its last test, {item.test.test_id}, the process did not exit normally "
        f"({reason}): check tearDownClass and tearDownModule, exit handlers, and threads that do "
        "not end"
    )
    return _record(
        worker, item, f"tearDownClass ({item.test.owner})", item.test.class_copy, text, None
    )


def _last_record(worker: Worker) -> TestRecord | None:
    """Return the record that the worker wrote when a test closed its channel to the runner."""
    left = worker.last_record()
    if left is not None:
        left.stdout, left.stderr = worker.unread_output()
    return left


def _unreadable(worker: Worker) -> str:
    return (
        f"because it sent invalid data: {worker.fault}; the usual cause is a test that writes to "
        "a file descriptor that it did not open"
    )


def _record(
    worker: Worker, item: Item, title: str, copy: int, text: str, began_s: float | None
) -> TestRecord:
    line = item.test.again
    text += f"\n\n{MARK}{line}" if line else ""
    out, err = worker.unread_output()
    return TestRecord(
        title,
        Status.FAILED,
        copy=copy,
        seconds=now() - began_s if began_s is not None else 0.0,
        troubles=[Trouble("ERROR", f"{title}{copy_suffix(copy)}", text)],
        started_s=began_s if began_s is not None else now(),
        worker=worker.number,
        stdout=out,
        stderr=err,
    )


def exit_text(code: int) -> str:
    """Return how a process with this exit code ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    return f"killed by {Killed(-code).signal_name}"


def why_discovery_ended(worker: Worker) -> str:
    """Return how the process that imported the test modules ended, and what to do about it."""
    if (left := worker.last_record()) is not None:
        return f"while the tests were imported: {left.why}"
    if worker.fault:
        return f"the runner ended the process that imported the tests, {_unreadable(worker)}"
    code = worker.exit_code()
    if worker.is_lost:
        return (
            "the process that imported the tests ended, and so did the fork server, which would "
            "have known how: if nobody killed them, the machine may have run out of memory"
        )
    if code < 0:
        out_of_memory = ": if nobody sent it, the machine may have run out of memory"
        hint = out_of_memory if code == -signal.SIGKILL else ", while it imported a test module"
        return f"the process that imported the tests was {exit_text(code)}{hint}"
    return (
        f"the process that imported the tests ended with {exit_text(code)}: "
        "a test module must not exit while it is imported"
    )

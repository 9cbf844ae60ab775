"""Turn outcomes, ranks and numbers into text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import assert_never

from harness.diagnosis.stacks import shown_place
from harness.model.outcome import (
    Deadlocked,
    Ended,
    Exited,
    Failed,
    Killed,
    Lost,
    Outcome,
    Passed,
    Raised,
    Sabotaged,
    Skipped,
    TimedOut,
)

# A reader sees the beginning and the end of what is longer.
_MAX_TEXT = 6000


def explain(outcome: Outcome) -> str:
    """Return an outcome in one line."""
    if isinstance(outcome, Passed):
        return "passed, but the test expected another exit code"
    if isinstance(outcome, Skipped):
        return f"skipped: {outcome.reason}"
    if isinstance(outcome, Failed | Raised):
        return outcome.problems[0].headline
    if isinstance(outcome, Exited):
        return _explain_exit(outcome)
    if isinstance(outcome, Killed):
        when = "after its body had passed" if outcome.after_body else "before its body was done"
        return f"killed by {outcome.signal_name} {when}"
    if isinstance(outcome, TimedOut):
        return _explain_timeout(outcome)
    if isinstance(outcome, Deadlocked):
        return "waits for something that can no longer happen"
    if isinstance(outcome, Lost):
        return f"lost: {outcome.reason}"
    if isinstance(outcome, Ended):
        return "still running when the harness ended it"
    if isinstance(outcome, Sabotaged):
        return f"{outcome.deed} as the test asks for"
    assert_never(outcome)


def state(outcome: Outcome) -> str:
    """Return an outcome in a word or two, for the headline."""
    if isinstance(outcome, Passed):
        return "passed"
    if isinstance(outcome, Skipped):
        return "skipped"
    if isinstance(outcome, Failed):
        return "failed"
    if isinstance(outcome, Raised):
        return "raised an exception"
    if isinstance(outcome, Exited):
        return f"exited with code {outcome.code}"
    if isinstance(outcome, Killed):
        return f"killed by {outcome.signal_name}"
    if isinstance(outcome, TimedOut):
        return _explain_timeout(outcome)
    if isinstance(outcome, Deadlocked):
        return f"deadlocked (certain after {outcome.after_s:.1f} s)"
    if isinstance(outcome, Lost):
        return "lost"
    if isinstance(outcome, Ended):
        return "still running"
    if isinstance(outcome, Sabotaged):
        return f"{outcome.deed} on purpose"
    assert_never(outcome)


def word(outcome: Outcome) -> str:
    """Return an outcome in a word, for a column; `state` says more."""
    if isinstance(outcome, Sabotaged):
        return state(outcome)
    return _WORDS[type(outcome)]


_WORDS: dict[type[Outcome], str] = {
    Passed: "passed",
    Skipped: "skipped",
    Failed: "failed",
    Raised: "raised",
    Exited: "exited",
    Killed: "killed",
    TimedOut: "timed out",
    Deadlocked: "deadlocked",
    Lost: "lost",
    Ended: "ended",
}


def _explain_exit(outcome: Exited) -> str:
    if outcome.after_body:
        return (
            f"exited with code {outcome.code} after its body had passed "
            "(an exit handler or a destructor?)"
        )
    where = f", sys.exit() at {shown_place(outcome.where)}" if outcome.where else ""
    return f"exited with code {outcome.code} before its body was done{where}"


def _explain_timeout(outcome: TimedOut) -> str:
    what = {
        "start": "had not started",
        "body": "had not finished",
        "exit": "had passed, but not exited",
    }[outcome.phase]
    return f"{what} after {outcome.limit_s:g} s"


def rank_list(ranks: Sequence[int]) -> str:
    """`rank 1`, `ranks 0, 2-5`."""
    ordered = sorted(ranks)
    if len(ordered) == 1:
        return f"rank {ordered[0]}"
    spans: list[list[int]] = []
    for rank in ordered:
        if spans and rank == spans[-1][-1] + 1:
            spans[-1].append(rank)
        else:
            spans.append([rank])
    texts = [
        f"{span[0]}-{span[-1]}" if len(span) > 2 else ", ".join(map(str, span)) for span in spans
    ]
    return "ranks " + ", ".join(texts)


def count(number: int, noun: str) -> str:
    """`1 rank`, `3 ranks`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def grouped(pairs: Iterable[tuple[int, str]]) -> list[tuple[str, list[int]]]:
    """Ranks by equal text, in the order of first appearance."""
    groups: dict[str, list[int]] = {}
    for rank, text in pairs:
        groups.setdefault(text, []).append(rank)
    return list(groups.items())


def shortened(text: str, limit: int = _MAX_TEXT) -> str:
    """The text, or its beginning and end with a note of how much is missing between them."""
    if len(text) <= limit:
        return text
    half = limit // 2
    missing = len(text) - 2 * half
    return f"{text[:half]}\n[… {missing:,} characters left out …]\n{text[-half:]}"

"""Format outcomes, lists of ranks, counts and long texts for readers."""

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
from harness.model.phase import Phase

# About 75 lines, enough for a traceback with its message. A longer text is cut in the middle.
_MAX_TEXT = 6000


def explain(outcome: Outcome) -> str:
    """Return a line that explains an outcome."""
    if isinstance(outcome, Passed):
        # A rank that passed is explained only if it should have exited (ExitRule.expected_code).
        return "passed, but the test expected another exit code"
    if isinstance(outcome, Skipped):
        return f"skipped: {outcome.reason}"
    if isinstance(outcome, Failed | Raised):
        return outcome.problems[0].headline
    if isinstance(outcome, Exited):
        return _explain_exit(outcome)
    if isinstance(outcome, Killed):
        when = "after its body passed" if outcome.after_body else "before its body finished"
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
        return _explain_sabotage(outcome)
    assert_never(outcome)


def state(outcome: Outcome) -> str:
    """Return an outcome in a few words that follow "1 of 2 ranks", for the headline."""
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
        return f"deadlocked (detected after {outcome.after_s:.1f} s)"
    if isinstance(outcome, Lost):
        return "lost"
    if isinstance(outcome, Ended):
        return "still running"
    if isinstance(outcome, Sabotaged):
        return _explain_sabotage(outcome)
    assert_never(outcome)


def word(outcome: Outcome) -> str:
    """Return an outcome in one or two words, for a column of a table."""
    if isinstance(outcome, Sabotaged):
        return _explain_sabotage(outcome)
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
            f"exited with code {outcome.code} after its body passed "
            "(an exit handler or a destructor?)"
        )
    where = f", sys.exit() at {shown_place(outcome.where)}" if outcome.where else ""
    return f"exited with code {outcome.code} before its body finished{where}"


def _explain_timeout(outcome: TimedOut) -> str:
    what = {
        Phase.START: "did not start within",
        Phase.BODY: "timed out after",
        Phase.EXIT: "passed, but did not exit within",
    }[outcome.phase]
    return f"{what} {outcome.limit_s:g} s"


def _explain_sabotage(outcome: Sabotaged) -> str:
    decorator = {"killed": "@kill_rank", "stopped": "@stop_rank"}[outcome.deed]
    return f"{outcome.deed} by {decorator}"


def rank_list(ranks: Sequence[int]) -> str:
    """Return ranks as text: `rank 1`, `ranks 0 and 1`, `ranks 0, 2-5 and 7`."""
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
        text
        for span in spans
        for text in ([f"{span[0]}-{span[-1]}"] if len(span) > 2 else map(str, span))
    ]
    *first, last = texts
    return f"ranks {', '.join(first)} and {last}" if first else f"ranks {last}"


def count(number: int, noun: str) -> str:
    """Return a number with its noun: `1 rank`, `3 ranks`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def grouped(pairs: Iterable[tuple[int, str]]) -> list[tuple[str, list[int]]]:
    """Return each distinct text with the ranks that have it, in the order of first appearance."""
    groups: dict[str, list[int]] = {}
    for rank, text in pairs:
        groups.setdefault(text, []).append(rank)
    return list(groups.items())


def shortened(text: str, limit: int = _MAX_TEXT) -> str:
    """Return the text; if it is too long, its beginning and end, and how much is left out."""
    if len(text) <= limit:
        return text
    half = limit // 2
    missing = len(text) - 2 * half
    return f"{text[:half]}\n[… {missing:,} characters left out …]\n{text[-half:]}"

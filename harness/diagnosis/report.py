"""The text of a failure: what became of the test, which rank did what, where, what it said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from typing_extensions import assert_never

from harness.model.outcome import (
    Ended,
    Exited,
    Failed,
    Killed,
    Lost,
    Outcome,
    Passed,
    Problem,
    Raised,
    RankReport,
    Skipped,
    Tail,
    TimedOut,
)
from harness.model.verdict import Verdict, VerdictKind

# A reader sees the beginning and the end of what is longer.
_MAX_TEXT = 6000
_INDENT = "    "


def describe(verdict: Verdict, again: str = "") -> str:
    """The whole message for a verdict that is neither a pass nor a skip.

    Args:
        verdict: the verdict.
        again: the command that runs this one test again; left out if empty.
    """
    sections = [headline(verdict), *_rank_sections(verdict), *_log_sections(verdict)]
    if again:
        sections.append(f"again:  {again}")
    return "\n\n".join(sections)


def headline(verdict: Verdict) -> str:
    """One line: how many ranks did what, and how the others fared."""
    total = len(verdict.reports)
    if total == 0:
        return "no rank ran"
    others = [r for r in verdict.reports if r.rank not in verdict.culprits]
    text = f"{len(verdict.culprits)} of {_ranks_text(total)} {_verb(verdict)}"
    fared = _grouped((r.rank, _state(r.outcome)) for r in others)
    rest = "; ".join(f"{rank_list(ranks)} {state}" for state, ranks in fared)
    return f"{text} ({rest})" if rest else text


def _verb(verdict: Verdict) -> str:
    if verdict.kind is VerdictKind.DISAGREED:
        return "did not do what the others did"
    states = {_state(_report(verdict, rank).outcome) for rank in verdict.culprits}
    return next(iter(states)) if len(states) == 1 else "did not pass"


def _rank_sections(verdict: Verdict) -> Iterable[str]:
    """A section for each group of culprits with the same story, root cause first."""
    stories = ((rank, _story(_report(verdict, rank), verdict)) for rank in verdict.culprits)
    for story, ranks in _grouped(stories):
        echo = set(ranks) <= verdict.collateral
        mark = "  (only because its peer had gone)" if echo else ""
        first, *rest = story.split("\n")
        yield "\n".join([f"{rank_list(ranks)}: {first}{mark}", *(_INDENT + line for line in rest)])


def _story(report: RankReport, verdict: Verdict) -> str:
    outcome = report.outcome
    if isinstance(outcome, Failed | Raised):
        return _story_of_problems(outcome.problems)
    return explain(outcome)


def _story_of_problems(problems: Sequence[Problem]) -> str:
    first, *_ = problems
    lines = [first.headline if len(problems) == 1 else f"{len(problems)} problems"]
    for problem in problems:
        if problem.subtest is not None:
            lines.append(f"sub-test {problem.subtest}")
        lines += shortened(problem.traceback).split("\n")
    return "\n".join(lines)


def explain(outcome: Outcome) -> str:
    """An outcome in words."""
    if isinstance(outcome, Passed):
        return "passed, though it was meant to exit otherwise"
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
    if isinstance(outcome, Lost):
        return f"lost: {outcome.reason}"
    if isinstance(outcome, Ended):
        return "still running when the harness ended it"
    assert_never(outcome)


def _explain_exit(outcome: Exited) -> str:
    if outcome.after_body:
        return (
            f"exited with code {outcome.code} after its body had passed "
            "(an exit handler or a destructor?)"
        )
    where = f", sys.exit() at {outcome.where}" if outcome.where else ""
    return f"exited with code {outcome.code} before its body was done{where}"


def _explain_timeout(outcome: TimedOut) -> str:
    what = {
        "start": "had not started",
        "body": "had not finished",
        "exit": "had passed, but its process had not exited",
    }[outcome.phase]
    return f"{what} after {outcome.limit_s:g} s"


def _state(outcome: Outcome) -> str:
    """One word or two for the headline."""
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
    if isinstance(outcome, Lost):
        return "lost"
    if isinstance(outcome, Ended):
        return "still running"
    assert_never(outcome)


def _log_sections(verdict: Verdict) -> Iterable[str]:
    for rank in verdict.culprits:
        report = _report(verdict, rank)
        shown = "\n".join(p.traceback for p in getattr(report.outcome, "problems", ()))
        for name, tail in (("stdout", report.stdout), ("stderr", report.stderr)):
            if _says_more(tail, shown):
                yield _log_section(rank, name, tail)


def _says_more(tail: Tail, shown: str) -> bool:
    """Whether a log holds anything but the traceback that the report shows already."""
    return any(line.strip() and line not in shown for line in tail.lines)


def _log_section(rank: int, name: str, tail: Tail) -> str:
    count = len(tail.lines)
    total = f"of {tail.total_lines} lines" if tail.total_lines else f"lines of {tail.size} bytes"
    which = f"last {count} {total}" if count != tail.total_lines else _lines_text(count)
    return "\n".join([f"rank {rank} {name} ({which})", *(_INDENT + line for line in tail.lines)])


def _lines_text(count: int) -> str:
    return f"{count} line" if count == 1 else f"{count} lines"


def _report(verdict: Verdict, rank: int) -> RankReport:
    return next(report for report in verdict.reports if report.rank == rank)


def _grouped(pairs: Iterable[tuple[int, str]]) -> list[tuple[str, list[int]]]:
    """Ranks by equal text, in the order of first appearance."""
    groups: dict[str, list[int]] = {}
    for rank, text in pairs:
        groups.setdefault(text, []).append(rank)
    return list(groups.items())


def _ranks_text(count: int) -> str:
    return f"{count} rank" if count == 1 else f"{count} ranks"


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


def shortened(text: str, limit: int = _MAX_TEXT) -> str:
    """The text, or its beginning and end with a note of how much is missing between them."""
    if len(text) <= limit:
        return text
    half = limit // 2
    missing = len(text) - 2 * half
    return f"{text[:half]}\n[… {missing:,} characters left out …]\n{text[-half:]}"

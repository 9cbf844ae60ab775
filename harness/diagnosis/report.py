"""Write the text of a failure: the verdict, and each rank's outcome, position and output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from harness.diagnosis.audit_text import fault_sections
from harness.diagnosis.calls import awaited, tensors_text
from harness.diagnosis.collectives import Divergence, find_divergence
from harness.diagnosis.stacks import shown_place, shown_stack
from harness.diagnosis.words import count, explain, grouped, rank_list, shortened, state
from harness.model.evidence import Collective, Snapshot
from harness.model.outcome import (
    Deadlocked,
    Ended,
    Failed,
    Killed,
    Problem,
    Raised,
    TimedOut,
)
from harness.model.phase import Phase
from harness.model.rank_report import RankReport, Tail
from harness.model.rerun import MARK
from harness.model.verdict import Verdict, VerdictKind

_INDENT = "    "
# These limits keep the report on a large world to a page or two. A world of up to four ranks, each
# with stdout and stderr, shows all its logs.
_MAX_LOGS = 8
_CULPRIT_LINES, _OTHER_LINES = 20, 5
_MAX_ROWS = 8
_MAX_COLLECTIVES = 4


def describe(
    verdict: Verdict,
    test: str = "",
    rerun_command: str = "",
    kept_folder: str = "",
    example: str = "",
    hints: Sequence[str] = (),
) -> str:
    """Return the whole message for a verdict that is neither a pass nor a skip.

    Args:
        verdict: the verdict.
        test: name of the test method; its frames are marked.
        rerun_command: the command that reruns this test; empty to leave it out.
        kept_folder: the folder with the ranks' files; empty if the harness removes it.
        example: for a property test, the example that the ranks ran; else empty.
        hints: what the parent knows about the problems of the ranks, a sentence each.
    """
    if verdict.faults:
        return "\n\n".join(
            [
                headline(verdict),
                *([example] if example else []),
                *fault_sections(verdict),
                *_last_section(kept_folder, rerun_command),
            ]
        )
    sections = [
        headline(verdict),
        *([example] if example else []),
        *_collectives_section(verdict),
        *_rank_sections(verdict, test),
        *(f"hint: {hint}" for hint in hints),
        *_survivor_sections(verdict, test),
        *_log_sections(verdict),
    ]
    return "\n\n".join([*sections, *_last_section(kept_folder, rerun_command)])


def _last_section(kept_folder: str, rerun_command: str) -> list[str]:
    last = [f"files: {kept_folder}"] if kept_folder else []
    last += [f"{MARK}{rerun_command}"] if rerun_command else []
    return ["\n".join(last)] if last else []


def headline(verdict: Verdict) -> str:
    """Return one line: what the ranks at fault did, and how the others ended.

    Ranks that disagree have no rank at fault, so the line names all: `rank 1 skipped, rank 0
    passed`. Otherwise it counts: `1 of 4 ranks killed by SIGKILL (ranks 1-3 lost their peer)`.
    """
    total = len(verdict.reports)
    if verdict.faults:
        return (
            "every rank passed, but their communication does not fit together "
            f"({count(len(verdict.faults), 'fault')})"
        )
    if total == 0:
        return "no rank ran"
    # Ranks that only lost a peer are culprits, but not causes: they would hide how many ranks are
    # at fault.
    causes = [rank for rank in verdict.culprits if rank not in verdict.collateral]
    others = [report.rank for report in verdict.reports if report.rank not in causes]
    if verdict.kind is VerdictKind.DISAGREED:
        return ", ".join([*_states_of(verdict, causes), *_states_of(verdict, others)])
    states = {state(_report(verdict, rank).outcome) for rank in causes}
    what = next(iter(states)) if len(states) == 1 else "did not pass"
    text = f"{len(causes)} of {count(total, 'rank')} {what}"
    rest = "; ".join(_states_of(verdict, others))
    return f"{text} ({rest})" if rest else text


def _states_of(verdict: Verdict, ranks: Sequence[int]) -> list[str]:
    """Return a text for each group of ranks that ended alike: `ranks 1-3 lost their peer`."""
    alike = grouped((rank, _state(verdict, rank)) for rank in ranks)
    return [
        f"{rank_list(group)} {_LOST_PEERS if text == _LOST_PEER and len(group) > 1 else text}"
        for text, group in alike
    ]


_LOST_PEER, _LOST_PEERS = "lost its peer", "lost their peer"


def _state(verdict: Verdict, rank: int) -> str:
    return _LOST_PEER if rank in verdict.collateral else state(_report(verdict, rank).outcome)


def _report(verdict: Verdict, rank: int) -> RankReport:
    return next(report for report in verdict.reports if report.rank == rank)


def _ranks_and_hosts(verdict: Verdict, ranks: Sequence[int]) -> str:
    """Return ranks as text, with hosts if there are several.

    For example `ranks 2 and 3 (beta, local ranks 0 and 1)`.
    """
    by_host: dict[str, list[int]] = {}
    for report in (_report(verdict, rank) for rank in sorted(ranks)):
        if report.host and report.local_rank is not None:
            by_host.setdefault(report.host, []).append(report.local_rank)
    places = [f"{host}, local {rank_list(local)}" for host, local in by_host.items()]
    return f"{rank_list(ranks)} ({'; '.join(places)})" if places else rank_list(ranks)


# Collectives


def _collectives_section(verdict: Verdict) -> Iterator[str]:
    snapshots = _snapshots(verdict.reports)
    # A rank that raised may have done so in its last collective, which is then no longer pending:
    # gloo ends a collective in which a peer was missing.
    broken = {r.rank for r in verdict.reports if isinstance(r.outcome, Raised)}
    divergence = find_divergence(snapshots, broken) if len(snapshots) > 1 else None
    if divergence is not None:
        yield "\n".join(
            [f"collectives: {_divergence_line(divergence)}", *_divergence_rows(divergence)]
        )


def _snapshots(reports: Iterable[RankReport]) -> dict[int, Snapshot]:
    return {r.rank: r.evidence.snapshot for r in reports if r.evidence.snapshot is not None}


def _divergence_line(divergence: Divergence) -> str:
    group = f"group {divergence.description!r}" if divergence.description else "an unnamed group"
    where = f"collective {divergence.seq} of {group}"
    absent = [rank for rank, call in divergence.calls.items() if call is None]
    if divergence.is_mismatch:
        return f"{rank_list(sorted(divergence.calls))} diverge at {where}"
    return f"{rank_list(absent)} never reached {where}"


def _divergence_rows(divergence: Divergence) -> Iterator[str]:
    rows = grouped(
        (rank, _call_text(call))
        for rank, call in sorted(divergence.calls.items())
        if call is not None
    )
    shown = rows[:_MAX_ROWS]
    width = max(len(rank_list(ranks)) for _, ranks in shown)
    for text, ranks in shown:
        yield f"{_INDENT}{rank_list(ranks):{width}}   {text}"
    if len(rows) > len(shown):
        yield f"{_INDENT}and {count(len(rows) - len(shown), 'other call')}"


def _call_text(call: Collective) -> str:
    tensors = tensors_text(call.sizes, call.dtypes)
    stack = shown_stack(call.frames)
    # The line for torch's function only repeats the operation.
    where = next((line for line in stack if not line.endswith("in torch")), "")
    return "   ".join(
        part for part in (f"{call.op} {call.detail}".rstrip(), tensors, where) if part
    )


# Ranks


def stacks_text(report: RankReport, test: str = "") -> str:
    """Return what a rank was doing when its test ended; empty if its body had ended by itself.

    Args:
        report: the report about the rank.
        test: name of the test method; its frames are marked.
    """
    if isinstance(report.outcome, TimedOut | Deadlocked | Ended):
        return "\n".join(_position_lines(report, test))
    return "\n".join(_crash_stack(report, test))


def _rank_sections(verdict: Verdict, test: str) -> Iterator[str]:
    """Yield a section for each group of culprits with the same text, root cause first."""
    yield from _sections(verdict, ((r, _rank_text(verdict, r, test)) for r in verdict.culprits))


def _sections(verdict: Verdict, texts: Iterable[tuple[int, str]]) -> Iterator[str]:
    """Yield a section for each distinct text, so that 64 ranks with one error take one section."""
    for text, ranks in grouped(texts):
        first, *rest = text.split("\n")
        who = _ranks_and_hosts(verdict, ranks)
        yield "\n".join([f"{who}: {first}", *(_INDENT + line for line in rest)])


def _rank_text(verdict: Verdict, rank: int, test: str) -> str:
    report = _report(verdict, rank)
    outcome = report.outcome
    if isinstance(outcome, Failed | Raised):
        if rank in verdict.collateral:
            return _lost_peer_text(outcome.problems[0])
        return _problems_text(outcome.problems)
    if isinstance(outcome, TimedOut | Deadlocked):
        return "\n".join(_position_lines(report, test))
    return "\n".join([explain(outcome), *_crash_stack(report, test)])


def _crash_stack(report: RankReport, test: str) -> list[str]:
    """Return the stack of the thread that crashed a rank, if faulthandler wrote one."""
    stacks = report.evidence.stacks[:1] if isinstance(report.outcome, Killed) else ()
    return [line for thread in stacks for line in shown_stack(thread.frames, test)]


def _lost_peer_text(problem: Problem) -> str:
    lines = [_LOST_PEER, shortened(problem.headline, 300)]
    return "\n".join([*lines, shown_place(problem.where)] if problem.where else lines)


def _problems_text(problems: Sequence[Problem]) -> str:
    first, *others = problems
    headline = count(len(problems), "problem") if others else shortened(first.headline, 500)
    lines = [headline]
    for problem in problems:
        if problem.subtest is not None:
            lines.append(f"sub-test {problem.subtest}")
        lines += shortened(problem.traceback).split("\n")
    return "\n".join(lines)


def _survivor_sections(verdict: Verdict, test: str) -> Iterator[str]:
    """Yield where the ranks were that the harness ended.

    What they waited for often explains the failure of another rank.
    """
    ended = [r for r in verdict.reports if isinstance(r.outcome, Ended)]
    yield from _sections(verdict, ((r.rank, "\n".join(_position_lines(r, test))) for r in ended))


def _position_lines(report: RankReport, test: str) -> list[str]:
    """Return what a rank was doing, its stack (innermost first), and its last collectives."""
    evidence = report.evidence
    main, *others = evidence.threads or (None,)
    lines = [_doing(report), *(f"{frame}  (native)" for frame in evidence.native)]
    if main is not None:
        lines += shown_stack(main.frames, test)
    lines += _last_collectives(evidence.snapshot)
    for thread in others:
        if thread is not None:
            shown = shown_stack(thread.frames)[:3]
            lines += [f"thread {thread.name}:", *(_INDENT + line for line in shown)]
    return lines


def _last_collectives(snapshot: Snapshot | None) -> Iterator[str]:
    """Yield one line with the last collectives that a rank issued, oldest first."""
    if snapshot is None or not snapshot.collectives:
        return
    shown = [_short_call_text(call) for call in snapshot.collectives[-_MAX_COLLECTIVES:]]
    yield f"last collectives: {', '.join(shown)}"


def _short_call_text(call: Collective) -> str:
    # torch numbers the groups. 0 is the default group, which nearly all calls use.
    group = "" if call.group == "0" else f" of group {call.group}"
    return f"{call.seq} {call.op}{group}" + (" (pending)" if call.pending else "")


def _doing(report: RankReport) -> str:
    evidence, outcome = report.evidence, report.outcome
    if evidence.state == "stopped":
        return "stopped by a signal (SIGSTOP?)"
    if isinstance(outcome, TimedOut) and outcome.phase is Phase.START:
        return f"still starting: the import of the test module has not returned ({evidence.state})"
    if not evidence.answered and not isinstance(outcome, Ended):
        # faulthandler's signal handler can write stacks while another thread holds the GIL.
        why = ": it is in native code and holds the GIL" if evidence.stacks else ""
        return f"does not answer{why} ({evidence.state or 'running'})"
    if isinstance(outcome, TimedOut) and outcome.phase is Phase.EXIT:
        return "its body passed, but its process does not exit"
    snapshot = evidence.snapshot
    if evidence.answered and snapshot is not None and snapshot.waiting is not None:
        return f"waiting in {awaited(snapshot)}"
    return "running"


# Logs


def _log_sections(verdict: Verdict) -> Iterator[str]:
    """Yield the ends of the ranks' logs: the culprits' first, then a few lines of the others."""
    others = [r.rank for r in verdict.reports if r.rank not in verdict.culprits]
    sections = [
        section
        for rank in (*verdict.culprits, *others)
        for section in _log_sections_of(verdict, rank)
    ]
    yield from sections[:_MAX_LOGS]
    if len(sections) > _MAX_LOGS:
        yield f"and {count(len(sections) - _MAX_LOGS, 'more log')} from other ranks"


def _log_sections_of(verdict: Verdict, rank: int) -> Iterator[str]:
    report = _report(verdict, rank)
    limit = _CULPRIT_LINES if rank in verdict.culprits else _OTHER_LINES
    for name, tail in (("stdout", report.stdout), ("stderr", report.stderr)):
        if any(line.strip() for line in tail.lines):
            yield _log_section(_ranks_and_hosts(verdict, [report.rank]), name, tail, limit)


def _log_section(who: str, name: str, tail: Tail, limit: int) -> str:
    lines = tail.lines[-limit:]
    if len(lines) == tail.total_lines:
        which = count(len(lines), "line")
    elif tail.total_lines is None:
        which = f"last {count(len(lines), 'line')} of {tail.size:,} bytes"
    else:
        which = f"last {len(lines)} of {tail.total_lines} lines"
    shown = [_INDENT + shortened(line, 400) for line in lines]
    return "\n".join([f"{who} {name} ({which})", *shown])

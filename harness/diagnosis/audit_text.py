"""Write what an audit has found: each fault with the calls of the ranks."""

from __future__ import annotations

from collections.abc import Iterator

from harness.diagnosis.calls import call_text
from harness.diagnosis.stacks import shown_place
from harness.diagnosis.words import count, grouped, rank_list
from harness.model.communication import CallOfRank, Fault
from harness.model.verdict import Verdict

_INDENT = "    "
_MAX_FAULTS, _MAX_ROWS = 5, 8


def fault_sections(verdict: Verdict) -> Iterator[str]:
    """Return a section for each fault, one for what could not be compared, and what to do."""
    for fault in verdict.faults[:_MAX_FAULTS]:
        yield _section(fault)
    if (rest := len(verdict.faults) - _MAX_FAULTS) > 0:
        yield f"(and {count(rest, 'fault')} more)"
    if verdict.gaps:
        yield "not compared: " + "; ".join(verdict.gaps)
    yield (
        'If the ranks diverge on purpose: @expects_divergence("why") on the test, or around a part '
        "of it (docs/audit.md)."
    )


def _section(fault: Fault) -> str:
    rows = grouped((row.rank, _row(row)) for row in fault.rows)
    lines = [f"{_INDENT}{rank_list(ranks):<8}  {text}" for text, ranks in rows[:_MAX_ROWS]]
    if len(rows) > _MAX_ROWS:
        lines.append(f"{_INDENT}(and {len(rows) - _MAX_ROWS} more)")
    return "\n".join([fault.problem, *lines])


def _row(row: CallOfRank) -> str:
    if row.call is None:
        return row.remark or "does not call it"
    parts = [call_text(row.call), row.remark]
    if row.call.where is not None:
        parts.insert(1, shown_place(row.call.where))
    return "  ".join(filter(None, parts))

"""Compare what the ranks of one test communicated, and find what does not fit together.

A pure function of the ranks' records. It compares, in this order:

1. the collectives of each group, one by one, by the rules of the operation (`matching.py`); groups
   are made by such a call, too: `new_group` is a collective of the world;
2. sends and receives, by sender, receiver and tag;
3. the order of collectives over several groups (`order_cycle.py`);

and adds what each rank found by itself. Where a record has a gap (a rank died, a test called more
than the recorder keeps), only what is certain is compared, and the gap is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.diagnosis.findings import Findings, Step, label_of
from harness.diagnosis.matching import mismatch
from harness.diagnosis.message_matching import match_messages
from harness.diagnosis.order_cycle import Node, find_cycle
from harness.diagnosis.stacks import shown_place
from harness.diagnosis.words import rank_list
from harness.model.communication import (
    WORLD,
    Call,
    CallOfRank,
    CommunicationRecord,
    Fault,
)
from harness.model.evidence import Group
from harness.model.outcome import Passed
from harness.model.verdict import Verdict, VerdictKind

Records = Mapping[int, CommunicationRecord]


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of an audit.

    Attributes:
        faults: what is wrong, the most telling first.
        gaps: what could not be compared, and why.
    """

    faults: tuple[Fault, ...] = ()
    gaps: tuple[str, ...] = ()


@dataclass
class _Group:
    """A group with its collectives, by the rank in the world.

    Attributes:
        steps: for each member, its collectives in order.
        matched: how many collectives all members have called alike.
    """

    name: str
    label: str
    members: tuple[int, ...]
    steps: dict[int, list[Step]]
    matched: int = 0


def audited(verdict: Verdict, only_warns: bool = False) -> Verdict:
    """Return the verdict of ranks that passed, or MISCOMMUNICATED if an audit finds faults.

    Any other verdict says already what is wrong, and what the ranks communicated follows from it.

    Args:
        verdict: the verdict.
        only_warns: whether the test passes despite faults; the verdict has them all the same.
    """
    if verdict.kind is not VerdictKind.PASSED:
        return verdict
    reports = verdict.reports
    records = {r.rank: r.communication for r in reports if r.communication is not None}
    if not records or not all(isinstance(report.outcome, Passed) for report in reports):
        return verdict  # no audit; or a rank ended as the test wants, perhaps between two calls
    found = compare(records, len(reports))
    if not found.faults:
        return verdict
    culprits = tuple(sorted({rank for fault in found.faults for rank in fault.ranks}))
    return replace(
        verdict,
        kind=VerdictKind.PASSED if only_warns else VerdictKind.MISCOMMUNICATED,
        culprits=() if only_warns else culprits,
        faults=found.faults,
        gaps=found.gaps,
    )


def compare(records: Records, world_size: int) -> Audit:
    """Compare the records of one test.

    Args:
        records: by rank; a rank without a record is a gap.
        world_size: the number of ranks.
    """
    found = Findings()
    for rank in range(world_size):
        if rank not in records:
            found.gaps.append(f"rank {rank} left no record")
        elif records[rank].missing:
            found.gaps.append(f"rank {rank}: {records[rank].missing}")
    if others := _numbered_otherwise(records, world_size):
        # Nothing says which rank of the test a group's member is.
        found.gaps.append(f"{rank_list(others)}: the test numbers them in its own way")
        _add_local_faults(records, found)
        return Audit(tuple(found.faults), tuple(found.gaps))
    steps = {rank: _steps(record) for rank, record in records.items()}
    groups = list(_comparable_groups(records, steps, world_size, found))
    for group in groups:
        _compare_collectives(group, records, found)
    for name in _names(records):
        match_messages(name, records, steps, found)
    if not found.faults:
        _check_order(groups, records, found)
    _add_local_faults(records, found)
    return Audit(tuple(found.faults), tuple(found.gaps))


def _numbered_otherwise(records: Records, world_size: int) -> list[int]:
    """Return the ranks that had another number, or another number of peers, for torch."""
    return [
        rank
        for rank, record in records.items()
        if any(world != (rank, world_size) for world in record.worlds)
    ]


def _steps(record: CommunicationRecord) -> list[Step]:
    failed = set(record.failed)
    return [
        Step(position, record.calls[index], position in failed)
        for position, index in enumerate(record.order)
    ]


def _names(records: Records) -> list[str]:
    return list(dict.fromkeys(name for record in records.values() for name in record.groups))


# Groups


def _comparable_groups(
    records: Records, steps: Mapping[int, list[Step]], world_size: int, found: Findings
) -> Iterator[_Group]:
    everyone = Group(tuple(range(world_size)), "the world")
    for name in (WORLD, *_names(records)):
        known = {r: record.groups[name] for r, record in records.items() if name in record.groups}
        group = everyone if name == WORLD else next(iter(known.values()))
        label = label_of(name, group)
        if any(rank not in group.ranks for rank in known):
            continue  # the ranks have numbered themselves in another way than the harness
        if lost := [rank for rank in group.ranks if rank not in records]:
            if name != WORLD:
                found.gaps.append(f"group {label} is not compared: no record of {rank_list(lost)}")
            continue
        yield _Group(
            name,
            label,
            group.ranks,
            {
                rank: [s for s in steps[rank] if s.call.group == name and not s.call.is_p2p]
                for rank in group.ranks
            },
        )


# Collectives


def _compare_collectives(group: _Group, records: Records, found: Findings) -> None:
    longest = max(map(len, group.steps.values()), default=0)
    for number in range(longest):
        calls = {r: (s[number] if number < len(s) else None) for r, s in group.steps.items()}
        made = {rank: step for rank, step in calls.items() if step is not None}
        if any(step.failed for step in made.values()):
            return  # the test expects an error here, and what comes after it is its own business
        title = f"collective {number + 1} of group {group.label}"
        if group.name == WORLD:
            title = f"new_group() number {number + 1}"
        if len(made) < len(calls):
            if not any(records[rank].missing for rank in group.members):
                absent = [rank for rank in calls if rank not in made]
                verb = "does" if len(absent) == 1 else "do"
                rows = [(rank, step, "") for rank, step in calls.items()]
                found.add(f"{title}: {rank_list(absent)} {verb} not call it", rows)
            return
        by_group_rank = [made[rank].call for rank in group.members]
        problem = mismatch(by_group_rank)
        if problem:
            found.add(f"{title}: {problem}", [(rank, step, "") for rank, step in made.items()])
            return
        group.matched = number + 1


# The order over several groups


def _check_order(groups: Sequence[_Group], records: Records, found: Findings) -> None:
    """Report a cycle among the collectives that all members have called alike."""
    numbers: dict[tuple[int, int], Node] = {}
    for group in groups:
        for rank, steps in group.steps.items():
            for number, step in enumerate(steps[: group.matched]):
                numbers[rank, step.position] = (group.name, number)
    programs: dict[int, list[list[Node]]] = {}
    for rank, record in records.items():
        by_thread: dict[int, list[Node]] = {}
        for position in range(len(record.order)):
            node = numbers.get((rank, position))
            if node is not None:
                thread = record.threads[position] if record.threads else 0
                by_thread.setdefault(thread, []).append(node)
        programs[rank] = list(by_thread.values())
    by_name = {group.name: group for group in groups}
    cycle = find_cycle(programs, {group.name: group.members for group in groups})
    if not cycle:
        return
    rows = []
    for wait in cycle:
        group = by_name[wait.node[0]]
        step = group.steps[wait.rank][wait.node[1]]
        rows.append((wait.rank, step, f"(group {group.label}, before rank {wait.for_rank})"))
    names = ", ".join(dict.fromkeys(by_name[wait.node[0]].label for wait in cycle))
    found.add(
        f"the ranks call collectives of groups {names} in different orders, which is a deadlock "
        "whenever calls block",
        rows,
    )


# What a rank found by itself


def _add_local_faults(records: Records, found: Findings) -> None:
    seen: dict[tuple[str, Call | None, str], list[int]] = {}
    for rank, record in records.items():
        for fault in record.faults:
            if (rank, fault.position) in found.named:
                continue
            call = record.calls[record.order[fault.position]] if fault.position >= 0 else None
            where = shown_place(fault.where) if fault.where else ""
            seen.setdefault((fault.problem, call, where), []).append(rank)
    for (problem, call, where), ranks in seen.items():
        subject = f"{call.op}: " if call is not None else ""
        rows = [CallOfRank(rank, call) for rank in ranks] if call is not None else []
        rows += [CallOfRank(rank, None, f"at {where}") for rank in ranks] if where else []
        found.faults.append(Fault(f"{subject}{problem}", tuple(rows)))

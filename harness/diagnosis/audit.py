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

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.diagnosis.calls import group_label
from harness.diagnosis.matching import mismatch, numel
from harness.diagnosis.order_cycle import Node, find_cycle
from harness.diagnosis.stacks import shown_place
from harness.diagnosis.words import count, rank_list
from harness.model.communication import (
    WORLD,
    Call,
    CallOfRank,
    CommunicationRecord,
    Fault,
    name_of_key,
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


@dataclass(frozen=True, slots=True)
class _Step:
    """One operation of one rank: where it stands in the rank's program."""

    position: int
    call: Call
    failed: bool


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
    steps: dict[int, list[_Step]]
    matched: int = 0


@dataclass
class _Findings:
    faults: list[Fault] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    #: The calls that a fault names already, as (rank, position).
    named: set[tuple[int, int]] = field(default_factory=set)

    def add(self, problem: str, rows: Iterable[tuple[int, _Step | None, str]]) -> None:
        listed = list(rows)
        self.named.update((rank, step.position) for rank, step, _ in listed if step is not None)
        shown = tuple(
            CallOfRank(rank, step.call if step else None, why) for rank, step, why in listed
        )
        self.faults.append(Fault(problem, shown))


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
    found = _Findings()
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
        _match_messages(name, records, steps, found)
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


def _steps(record: CommunicationRecord) -> list[_Step]:
    failed = set(record.failed)
    return [
        _Step(position, record.calls[index], position in failed)
        for position, index in enumerate(record.order)
    ]


def _names(records: Records) -> list[str]:
    return list(dict.fromkeys(name for record in records.values() for name in record.groups))


# Groups


def _comparable_groups(
    records: Records, steps: Mapping[int, list[_Step]], world_size: int, found: _Findings
) -> Iterator[_Group]:
    everyone = Group(tuple(range(world_size)), "the world")
    for name in (WORLD, *_names(records)):
        known = {r: record.groups[name] for r, record in records.items() if name in record.groups}
        group = everyone if name == WORLD else next(iter(known.values()))
        label = _label(name, group)
        if any(rank not in group.ranks for rank in known):
            continue  # the ranks have numbered themselves in another way than the harness
        if lost := [rank for rank in group.ranks if rank not in records]:
            if lost and name != WORLD:
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


def _label(name: str, group: Group) -> str:
    return group.description if name == WORLD else group_label(name_of_key(name), group.description)


# Collectives


def _compare_collectives(group: _Group, records: Records, found: _Findings) -> None:
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


# Sends and receives


@dataclass
class _Mail:
    """What one rank sends to, and receives from, others in one group."""

    sends: dict[tuple[int, int, int], list[tuple[int, _Step]]] = field(default_factory=dict)
    receives: dict[tuple[int, int, int], list[tuple[int, _Step]]] = field(default_factory=dict)
    from_any: dict[tuple[int, int], list[tuple[int, _Step]]] = field(default_factory=dict)


def _match_messages(
    name: str, records: Records, steps: Mapping[int, list[_Step]], found: _Findings
) -> None:
    known = {r: record.groups[name] for r, record in records.items() if name in record.groups}
    group = next(iter(known.values()))
    mail = _mail(name, group, known, steps)
    if any(
        step.failed for box in (mail.sends, mail.receives, mail.from_any) for _, step in _all(box)
    ):
        return
    is_partial = any(rank not in records or records[rank].missing for rank in group.ranks)
    label = _label(name, group)
    for route in list(dict.fromkeys([*mail.sends, *mail.receives])):
        _match_route(label, route, mail, found, is_partial)
    if not is_partial:
        _match_the_rest(label, mail, found)


def _mail(
    name: str, group: Group, known: Mapping[int, Group], steps: Mapping[int, list[_Step]]
) -> _Mail:
    mail = _Mail()
    for rank in known:
        for step in steps[rank]:
            call = step.call
            if call.group != name or not call.is_p2p:
                continue
            if call.peer is None or not 0 <= call.peer < len(group.ranks):
                mail.from_any.setdefault((rank, call.tag), []).append((rank, step))
                continue
            peer = group.ranks[call.peer]
            if call.op == "send":
                mail.sends.setdefault((rank, peer, call.tag), []).append((rank, step))
            else:
                mail.receives.setdefault((peer, rank, call.tag), []).append((rank, step))
    return mail


def _all(boxes: Mapping[Any, list[tuple[int, _Step]]]) -> Iterator[tuple[int, _Step]]:
    return (item for items in boxes.values() for item in items)


def _match_route(
    label: str, route: tuple[int, int, int], mail: _Mail, found: _Findings, is_partial: bool
) -> None:
    """Match the messages of one sender to one receiver with one tag, in order."""
    source, destination, tag = route
    sends, receives = mail.sends.get(route, []), mail.receives.get(route, [])
    # A receive from any rank may have taken any of the messages, so that only their number counts.
    is_certain = not mail.from_any.get((destination, tag))
    for (sender, send), (receiver, receive) in zip(sends, receives, strict=False):
        if not is_certain:
            break
        what = _difference(send.call, receive.call)
        if what:
            found.add(
                f"send from rank {source} to rank {destination} in group {label}: {what}",
                [(sender, send, ""), (receiver, receive, "")],
            )
            mail.sends[route], mail.receives[route] = [], []  # what follows is out of step
            return
    matched = min(len(sends), len(receives))
    mail.sends[route], mail.receives[route] = sends[matched:], receives[matched:]


def _difference(send: Call, receive: Call) -> str:
    if send.dtypes != receive.take_dtypes:
        return "the dtypes differ"
    if [numel(size) for size in send.gives] != [numel(size) for size in receive.takes or ()]:
        return "the numbers of elements differ"
    return ""


def _match_the_rest(label: str, mail: _Mail, found: _Findings) -> None:
    """Report sends and receives without a partner; receives from any rank take what is left."""
    for (source, destination, tag), sends in mail.sends.items():
        takers = mail.from_any.get((destination, tag), [])
        while sends and takers:
            sends.pop(0)
            takers.pop(0)
        if not sends:
            continue
        other = next(
            (
                (route, receives)
                for route, receives in mail.receives.items()
                if route[:2] == (source, destination) and receives
            ),
            None,
        )
        if other is not None:
            found.add(
                f"send from rank {source} to rank {destination} in group {label}: the tags differ",
                [(source, sends[0][1], ""), (destination, other[1][0][1], "")],
            )
            other[1].clear()
            continue
        found.add(
            f"{count(len(sends), 'send')} from rank {source} to rank {destination} in group "
            f"{label}: never received",
            [(source, sends[0][1], ""), (destination, None, "")],
        )
    for (source, destination, _), receives in mail.receives.items():
        if receives:
            found.add(
                f"{count(len(receives), 'receive')} of rank {destination} from rank {source} in "
                f"group {label}: never sent",
                [(destination, receives[0][1], ""), (source, None, "")],
            )
    for (destination, _), receives in mail.from_any.items():
        if receives:
            found.add(
                f"{count(len(receives), 'receive')} of rank {destination} from any rank in group "
                f"{label}: never sent",
                [(destination, receives[0][1], "")],
            )


# The order over several groups


def _check_order(groups: Sequence[_Group], records: Records, found: _Findings) -> None:
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


def _add_local_faults(records: Records, found: _Findings) -> None:
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

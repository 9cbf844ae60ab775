"""Match the sends of ranks with the receives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.diagnosis.findings import Findings, Step, label_of
from harness.diagnosis.matching import numel
from harness.diagnosis.words import count
from harness.model.communication import Call, CommunicationRecord
from harness.model.evidence import Group


@dataclass
class _Mail:
    """What one rank sends to, and receives from, others in one group."""

    sends: dict[tuple[int, int, int], list[tuple[int, Step]]] = field(default_factory=dict)
    receives: dict[tuple[int, int, int], list[tuple[int, Step]]] = field(default_factory=dict)
    from_any: dict[tuple[int, int], list[tuple[int, Step]]] = field(default_factory=dict)


def match_messages(
    name: str,
    records: Mapping[int, CommunicationRecord],
    steps: Mapping[int, list[Step]],
    found: Findings,
) -> None:
    """Report sends and receives of a group that do not fit together.

    Args:
        name: the key of the group.
        records: by rank.
        steps: the operations of each rank, in order.
        found: gets the faults.
    """
    known = {r: record.groups[name] for r, record in records.items() if name in record.groups}
    group = next(iter(known.values()))
    mail = _mail(name, group, known, steps)
    if any(
        step.failed for box in (mail.sends, mail.receives, mail.from_any) for _, step in _all(box)
    ):
        return
    is_partial = any(rank not in records or records[rank].missing for rank in group.ranks)
    label = label_of(name, group)
    for route in list(dict.fromkeys([*mail.sends, *mail.receives])):
        _match_route(label, route, mail, found)
    if not is_partial:
        _match_the_rest(label, mail, found)


def _mail(
    name: str, group: Group, known: Mapping[int, Group], steps: Mapping[int, list[Step]]
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


def _all(boxes: Mapping[Any, list[tuple[int, Step]]]) -> Iterator[tuple[int, Step]]:
    return (item for items in boxes.values() for item in items)


def _match_route(label: str, route: tuple[int, int, int], mail: _Mail, found: Findings) -> None:
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


def _match_the_rest(label: str, mail: _Mail, found: Findings) -> None:
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

"""Define the messages between torchrun's processes, and validate them.

Both sides check what they receive against these tables. So a process of another version, or a
broken one, leads to one clear sentence instead of an exception somewhere in the receiver.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.ranks.channel import Message

# Longer than any time on any clock. NaN fails the comparison with it, too.
_LONGEST_S = 1e15

_Rule = Callable[[Any], bool]
Kinds = Mapping[str, Mapping[str, _Rule]]


def _text(value: object) -> bool:
    return isinstance(value, str)


def _switch(value: object) -> bool:
    return isinstance(value, bool)


def _whole(least: int, most: int = 1 << 62) -> _Rule:
    def is_one(value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

    return is_one


def _seconds(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) < _LONGEST_S


def _or_none(rule: _Rule) -> _Rule:
    return lambda value: value is None or rule(value)


def _all(rule: _Rule) -> _Rule:
    return lambda value: isinstance(value, list) and all(map(rule, value))


def _parts(rules: Mapping[str, _Rule]) -> _Rule:
    def has_them(value: object) -> bool:
        return isinstance(value, dict) and all(
            name in value and rule(value[name]) for name, rule in rules.items()
        )

    return has_them


def _just(rules: Mapping[str, _Rule]) -> _Rule:
    has_them = _parts(rules)
    return lambda value: has_them(value) and len(value) == len(rules)


def _data(value: object) -> bool:
    return isinstance(value, dict)


def _anything(value: object) -> bool:
    return True


_said_by_a_rank = _parts({"kind": _text})
_world, _number, _signal = _whole(1), _whole(1), _whole(1, 64)

#: Messages from rank 0 to an agent.
FROM_RANK_0: Kinds = {
    "start": {"world": _world, "rank": _whole(0), "message": _parts({"method": _text})},
    "again": {"world": _world, "message": _data},
    "go_on": {"world": _world, "message": _data},
    "order": {"world": _world, "message": _said_by_a_rank},
    "signal": {"world": _world, "signal": _signal},
    "close": {"world": _world},
    "look": {"world": _world, "number": _number, "stacks": _switch, "native": _switch},
    "logs": {"world": _world, "number": _number, "lines": _whole(0), "bytes": _whole(0)},
    "leftovers": {"world": _world, "number": _number, "grace_s": _seconds},
    "learn": {"modules": _all(_text)},
    "clock": {"number": _number},
    "leave": {"code": _whole(0, 255)},
}

#: Messages from an agent to rank 0.
TO_RANK_0: Kinds = {
    "rank": {"world": _world, "message": _said_by_a_rank},
    "started": {"world": _world, "pid": _whole(1)},
    "exited": {"world": _world, "code": _or_none(_whole(-64, 255)), "why": _text},
    "answer": {"number": _number, "value": _anything},
    "ending": {"signal": _signal},
}


def _is_log(value: object) -> bool:
    rules: tuple[_Rule, ...] = (_all(_text), _whole(0), _whole(0), _text)
    return (
        isinstance(value, list)
        and len(value) == len(rules)
        and all(rule(part) for rule, part in zip(rules, value, strict=True))
    )


_look = _parts({"state": _text, "written": _text, "native": _all(_text)})
_leftover = _just({"pid": _whole(1), "command": _text, "rank": _or_none(_whole(0))})

#: Answers of an agent to each kind of question; {} about a world that it has closed.
ANSWERS: Mapping[str, _Rule] = {
    "clock": _seconds,
    "look": lambda value: value == {} or _look(value),
    "logs": lambda value: isinstance(value, dict) and all(map(_is_log, value.values())),
    "leftovers": lambda value: value == {} or _all(_leftover)(value),
}


def fault_of(message: Message, kinds: Kinds) -> str:
    """Return what is wrong with a message; empty if it is valid."""
    rules = kinds.get(message["kind"])
    if rules is None:
        return f"a message of the unknown kind {message['kind']!r:.100}"
    for name, rule in rules.items():
        if name not in message:
            return f"a message {message['kind']!r} without {name!r}"
        if not rule(message[name]):
            return f"a message {message['kind']!r} with {name} {message[name]!r:.100}"
    return ""

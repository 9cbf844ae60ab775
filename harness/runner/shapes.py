"""Check that JSON data has the shape of a type, before it is used.

Reports, journals and history files may be damaged or edited by hand. The check turns that into one
error with the place, instead of a TypeError somewhere later.
"""

from __future__ import annotations

import enum
import inspect
import types
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from harness.model.settings import quoted

# Limits for times and counts: 300 years in seconds, so that sums of a few are still valid dates.
_MAX_SECONDS = 1e10
_MAX_NUMBER = 2**64
# Fields that are counts or durations.
_NEVER_NEGATIVE = frozenset({"seconds", "not_run", "jobs", "copy", "worker"})
_WORDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}


def check(value: object, wanted: Any, where: str) -> None:
    """Raise ValueError unless JSON data fits a type.

    Args:
        value: as `json.loads` returns it. A dataclass or struct is an object with its fields; those
            with a default may be missing. An enum is one of its values.
        wanted: the type: a dataclass, a struct, an enum, `str`, `int`, `float`, `bool`, `list[X]`,
            `tuple[X, ...]`, `tuple[X, Y]`, or a union with None.
        where: where the value is, for the message.

    Raises:
        ValueError: the message names the place and what is wrong there.
    """
    origin = get_origin(wanted)
    if wanted in _WORDS:
        _check_plain(value, wanted, where)
    elif origin in (Union, types.UnionType):
        if value is not None:
            (inner,) = (arm for arm in get_args(wanted) if arm is not types.NoneType)
            check(value, inner, where)
    elif origin in (list, tuple):
        _check_list(value, wanted, where)
    elif isinstance(wanted, type) and issubclass(wanted, enum.Enum):
        known = [member.value for member in wanted]
        _require(isinstance(value, str) and value in known, value, f"one of {known}", where)
    else:
        check_fields(value, fields_of(wanted), where, required=_required(wanted))


def check_fields(
    value: object, fields: Mapping[str, Any], where: str, required: Sequence[str]
) -> None:
    """Raise ValueError unless the value is an object with these fields, and no others.

    Args:
        value: as `json.loads` returns it.
        fields: field name to type.
        where: where the value is, for the message.
        required: the fields that must not be missing.

    Raises:
        ValueError: the message names the place and what is wrong there.
    """
    if not isinstance(value, dict):
        raise _wrong(value, "an object", where)
    for name in required:
        if name not in value:
            raise ValueError(f"{where} has no {name!r}")
    for name, inner in value.items():
        if name not in fields:
            raise ValueError(f"{where} has an unknown entry {quoted(name)}")
        check(inner, fields[name], f"{where}.{name}")
        if name in _NEVER_NEGATIVE and inner < 0:
            raise _wrong(inner, "0 or more", f"{where}.{name}")


@cache
def fields_of(cls: type) -> Mapping[str, Any]:
    """Return field name to type for a dataclass or struct."""
    return get_type_hints(cls)


@cache
def _required(cls: Any) -> Sequence[str]:
    parameters = inspect.signature(cls).parameters.values()
    return [each.name for each in parameters if each.default is each.empty]


def _check_plain(value: object, wanted: type, where: str) -> None:
    types_ = (int, float) if wanted is float else (wanted,)
    # bool is a subclass of int in Python.
    is_other_bool = isinstance(value, bool) and wanted is not bool
    _require(isinstance(value, types_) and not is_other_bool, value, _WORDS[wanted], where)
    if isinstance(value, int | float):
        limit = _MAX_SECONDS if wanted is float else _MAX_NUMBER
        # This also rejects infinities and NaN, which json.loads accepts.
        _require(abs(value) <= limit, value, f"between -{limit:g} and {limit:g}", where)


def _check_list(value: object, wanted: Any, where: str) -> None:
    arms = get_args(wanted)
    if not isinstance(value, list):
        raise _wrong(value, "a list", where)
    if get_origin(wanted) is tuple and arms[-1] is not Ellipsis:
        _require(len(value) == len(arms), value, f"a list of {len(arms)}", where)
    for number, item in enumerate(value):
        check(item, arms[0], f"{where}[{number}]")


def _require(is_right: bool, value: object, what: str, where: str) -> None:
    if not is_right:
        raise _wrong(value, what, where)


def _wrong(value: object, what: str, where: str) -> ValueError:
    shown = f"{type(value).__name__} of {len(value)}" if isinstance(value, dict | list) else ""
    return ValueError(f"{where} is {shown or quoted(str(value))}, not {what}")

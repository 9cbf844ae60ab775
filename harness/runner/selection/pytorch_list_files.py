"""Read the files of PyTorch's lists of disabled and of slow tests.

- `DISABLED_TESTS_FILE`: `{"test_name (__main__.TestClass)": ["https://…/issues/1", ["linux"]]}`;
  an empty list of platforms means all of them.
- `SLOW_TESTS_FILE`: `{"test_name (__main__.TestClass)": 61.5}`; only the keys count.

Anything that is wrong with a file becomes a line in `problems`, and the run ignores it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DISABLED_FILE = "DISABLED_TESTS_FILE"
SLOW_FILE = "SLOW_TESTS_FILE"


@dataclass(frozen=True)
class Disabled:
    """An entry of the disabled list.

    Attributes:
        owner: the beginning of the names of its classes.
        issue: the URL of the issue that disables it.
        platforms: where it is disabled; empty for everywhere.
    """

    owner: str
    issue: str
    platforms: frozenset[str]


def read_disabled(
    environ: Mapping[str, str], known: frozenset[str], problems: list[str]
) -> dict[str, tuple[Disabled, ...]]:
    """Return method name to its entries; `known` are the names of all platforms."""
    content = _read(environ, DISABLED_FILE, problems)
    found: dict[str, tuple[Disabled, ...]] = {}
    bad = []
    for key, value in content.items():
        named, issue, platforms = _parts(key), *_disabled(value)
        if named is None or issue is None:
            bad.append(key)
            continue
        if unknown := sorted(platforms - known):
            problems.append(_unknown(issue, unknown))
        # As in PyTorch, a test whose platforms are all unknown is disabled everywhere.
        entry = Disabled(named[1], issue, platforms & known)
        found[named[0]] = (*found.get(named[0], ()), entry)
    _add_problem(environ, DISABLED_FILE, bad, content, problems)
    return found


def _disabled(value: Any) -> tuple[str | None, frozenset[str]]:
    """Return issue and platforms of an entry; no issue if it is not valid."""
    match value:
        case [str() as issue, list() as platforms] if all(isinstance(p, str) for p in platforms):
            return issue, frozenset(platforms)
    return None, frozenset()


def _unknown(issue: str, platforms: list[str]) -> str:
    return f"{DISABLED_FILE}: {issue} names unknown platforms: {', '.join(platforms)}"


def read_slow(environ: Mapping[str, str], problems: list[str]) -> dict[str, tuple[str, ...]]:
    """Return method name to the beginnings of the names of its classes."""
    content = _read(environ, SLOW_FILE, problems)
    found: dict[str, tuple[str, ...]] = {}
    bad = []
    for key in content:
        if named := _parts(key):
            found[named[0]] = (*found.get(named[0], ()), named[1])
        else:
            bad.append(key)
    _add_problem(environ, SLOW_FILE, bad, content, problems)
    return found


def _parts(key: str) -> tuple[str, str] | None:
    """Split `test_add (__main__.TestMath)` into `test_add` and `TestMath`; None if not valid."""
    words = key.split()
    return (words[0], words[1][1:-1].rpartition(".")[2]) if len(words) > 1 else None


def _read(environ: Mapping[str, str], variable: str, problems: list[str]) -> dict[str, Any]:
    """Return the JSON object in the file that a variable names; empty if there is none."""
    path = environ.get(variable, "")
    if not path:
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        why = getattr(error, "strerror", None) or f"it is not JSON: {error}"
        problems.append(f"{variable}: {path} cannot be read; the run goes without it ({why})")
        return {}
    if isinstance(content, dict):
        return content
    problems.append(f"{variable}: {path} is not a JSON object; the run goes without it")
    return {}


def _add_problem(
    environ: Mapping[str, str],
    variable: str,
    bad: Sequence[str],
    content: Collection[str],
    problems: list[str],
) -> None:
    if bad:
        problems.append(
            f"{variable}: {environ[variable]}: {len(bad)} of {len(content)} entries are not valid; "
            f"the run goes without them (the first: {bad[0]!r})"
        )

"""`-k`: a part of a test's name, a wildcard, or several of these with `and`, `or`, `not`, `( )`."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable

from harness.model.errors import UsageError

Matcher = Callable[[str], bool]

_TOKEN = re.compile(r"\(|\)|[^\s()]+(?:\([^\s()]*\)[^\s()]*)*")
_WORDS = frozenset({"and", "or", "not"})


def matcher(pattern: str) -> Matcher:
    """What says of a test's id whether the pattern means it.

    Raises:
        UsageError: if the pattern is an expression that cannot be read.
    """
    tokens = _TOKEN.findall(pattern)
    if not _WORDS.intersection(tokens) and "(" not in tokens:
        return _name(pattern.strip() or pattern)
    return _Parser(pattern, tokens).whole()


def _name(text: str) -> Matcher:
    """A wildcard if it has a star, else anywhere in the name."""
    wildcard = text if "*" in text else f"*{_literal(text)}*"
    return lambda test_id: fnmatch.fnmatchcase(test_id, wildcard)


def _literal(text: str) -> str:
    return re.sub(r"([?\[])", r"[\1]", text)


class _Parser:
    """Reads an expression: `not` binds closest, then `and`, then `or`."""

    def __init__(self, pattern: str, tokens: list[str]) -> None:
        self._pattern = pattern
        self._tokens = tokens

    def whole(self) -> Matcher:
        found = self._any()
        if self._tokens:
            raise self._error(f"{self._tokens[0]!r} is not expected")
        return found

    def _any(self) -> Matcher:
        options = [self._all()]
        while self._next_is("or"):
            options.append(self._all())
        return lambda test_id: any(option(test_id) for option in options)

    def _all(self) -> Matcher:
        parts = [self._one()]
        while self._next_is("and"):
            parts.append(self._one())
        return lambda test_id: all(part(test_id) for part in parts)

    def _one(self) -> Matcher:
        if self._next_is("not"):
            inner = self._one()
            return lambda test_id: not inner(test_id)
        if self._next_is("("):
            inner = self._any()
            if not self._next_is(")"):
                raise self._error("a ')' is missing")
            return inner
        if not self._tokens or self._tokens[0] in {*_WORDS, ")"}:
            raise self._error("a name is missing")
        return _name(self._tokens.pop(0))

    def _next_is(self, token: str) -> bool:
        if self._tokens[:1] == [token]:
            self._tokens.pop(0)
            return True
        return False

    def _error(self, what: str) -> UsageError:
        return UsageError(f"-k {self._pattern!r} cannot be read: {what}")

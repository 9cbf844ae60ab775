"""`-k`: a part of a test's name, a wildcard, or several of these with `and`, `or`, `not`, `( )`.

The language is that of pytest's `-k`, which ignores case. A name may also have a `*`, which stands
for anything, parentheses inside it, as in `test_add(float32)`, and quotes around it, which take
everything between them as it is.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, NoReturn

from harness.model.errors import UsageError

Matcher = Callable[[str], bool]

_TOKEN = re.compile(
    r"""
    \s* (?:
        (?P<word> and | or | not ) (?= [\s()] | $ )
      | (?P<bracket> [()] )
      | (?P<quote> ["'] ) (?P<quoted> .*? ) (?P=quote) (?= [\s()] | $ )
      | (?P<name> [^\s()"'] [^\s()]* (?: \( [^\s()]* \) [^\s()]* )* )
      | (?P<end> $ )
    )""",
    re.VERBOSE | re.DOTALL,
)
# Parsing is recursive; Python's own limit is 1000 calls.
_MAX_DEPTH = 100
# How much of an expression an error shows to the left and to the right of the place.
_SHOWN = 40


def matcher(pattern: str) -> Matcher:
    """Return what tells whether a test's id matches the pattern.

    Raises:
        UsageError: if the pattern cannot be read; the message shows where.
    """
    return _Parser(pattern).whole()


def any_matcher(patterns: Sequence[str]) -> Matcher:
    """Return what tells whether a test's id matches one of the patterns; any id, if there are none.

    Raises:
        UsageError: as `matcher`.
    """
    matchers = [matcher(pattern) for pattern in patterns]
    return lambda test_id: not matchers or any(matches(test_id) for matches in matchers)


class _Token(NamedTuple):
    """A piece of an expression.

    Attributes:
        kind: `word` (and, or, not), `bracket`, `name`, `quoted` or `end`.
        text: as written; of a quoted name, what is between the quotes.
        at: where it begins.
    """

    kind: str
    text: str
    at: int


class _Parser:
    """Reads an expression: `not` binds closest, then `and`, then `or`."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._tokens = list(self._read())
        self._next = 0
        self._depth = 0

    def _read(self) -> Iterator[_Token]:
        at = 0
        while True:
            found = _TOKEN.match(self._pattern, at)
            if found is None:
                start = at + len(self._pattern[at:]) - len(self._pattern[at:].lstrip())
                self._fail(start, "a quote is not closed, or text follows it without a space")
            kind = found.lastgroup or ""
            yield _Token(kind, found[kind], found.start("quote" if kind == "quoted" else kind))
            if kind == "end":
                return
            at = found.end()

    def whole(self) -> Matcher:
        found = self._any()
        token = self._tokens[self._next]
        if token.text == ")":
            self._fail(token.at, "')' closes nothing")
        if token.kind != "end":
            self._fail(token.at, "'and' or 'or' is missing (quote a name that has spaces)")
        return found

    def _any(self) -> Matcher:
        options = [self._all()]
        while self._next_is("word", "or"):
            options.append(self._all())
        return lambda test_id: any(option(test_id) for option in options)

    def _all(self) -> Matcher:
        parts = [self._one()]
        while self._next_is("word", "and"):
            parts.append(self._one())
        return lambda test_id: all(part(test_id) for part in parts)

    def _one(self) -> Matcher:
        token = self._tokens[self._next]
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            self._fail(token.at, f"it is nested more than {_MAX_DEPTH} levels deep")
        found = self._negated_or_bracketed(token)
        self._depth -= 1
        return found

    def _negated_or_bracketed(self, token: _Token) -> Matcher:
        if self._next_is("word", "not"):
            inner = self._one()
            return lambda test_id: not inner(test_id)
        if self._next_is("bracket", "("):
            found = self._any()
            if not self._next_is("bracket", ")"):
                self._fail(self._tokens[self._next].at, f"the '(' {_place(token.at)} is not closed")
            return found
        if token.kind not in {"name", "quoted"} or not token.text:
            self._fail(token.at, "a name is missing")
        self._next += 1
        return _matching(token)

    def _next_is(self, kind: str, text: str) -> bool:
        is_next = self._tokens[self._next][:2] == (kind, text)
        self._next += is_next
        return is_next

    def _fail(self, at: int, what: str) -> NoReturn:
        before, after = self._pattern[:at], self._pattern[at:]
        before = before if len(before) <= _SHOWN else f"…{before[-_SHOWN:]}"
        after = after if len(after) <= _SHOWN else f"{after[:_SHOWN]}…"
        shown = repr(f"{before}>>>{after}")
        raise UsageError(f"-k cannot be read {_place(at)}: {shown}: {what}")


def _place(at: int) -> str:
    return f"at character {at + 1}"


def _matching(token: _Token) -> Matcher:
    """Match a wildcard if the name has a star, else a part of the id."""
    text = token.text.lower()
    if token.kind == "name" and "*" in text:
        wildcard = re.sub(r"([?\[])", r"[\1]", text)
        return lambda test_id: fnmatch.fnmatchcase(test_id.lower(), wildcard)
    return lambda test_id: text in test_id.lower()

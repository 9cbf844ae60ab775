"""The option -k: part of a test's name, a wildcard, or an expression with `and`, `or` and `not`.

The language is that of pytest's `-k`, which ignores case, with three additions. A `*` in a name
matches anything. A name may contain parentheses, as in `test_add(float32)`. Quotes around a name
make all characters in it literal.

Grammar, from the loosest operator to the tightest:

    any  =  all ("or" all)*
    all  =  one ("and" one)*
    one  =  "not" one  |  "(" any ")"  |  name  |  quoted name
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
# Parsing is recursive, and CPython raises RecursionError at a depth of 1000 calls.
_MAX_DEPTH = 100
# How many characters an error shows before and after the place.
_MAX_CONTEXT = 40


def matcher(pattern: str) -> Matcher:
    """Return a function that tells whether a test's id matches the pattern.

    Raises:
        UsageError: if the pattern is not valid; the message shows where.
    """
    return _Parser(pattern).whole()


def any_matcher(patterns: Sequence[str]) -> Matcher:
    """Return a function that tells whether a test's id matches a pattern; all do if there is none.

    Raises:
        UsageError: if a pattern is not valid; the message shows where.
    """
    matchers = [matcher(pattern) for pattern in patterns]
    return lambda test_id: not matchers or any(matches(test_id) for matches in matchers)


class _Token(NamedTuple):
    """A piece of an expression.

    Attributes:
        kind: `word` (and, or, not), `bracket`, `name`, `quoted` or `end`.
        text: the text; for a quoted name, without the quotes.
        at: its first character in the expression.
    """

    kind: str
    text: str
    at: int


class _Parser:
    """Parses an expression: `not` binds tightest, then `and`, then `or`."""

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
        before = before if len(before) <= _MAX_CONTEXT else f"…{before[-_MAX_CONTEXT:]}"
        after = after if len(after) <= _MAX_CONTEXT else f"{after[:_MAX_CONTEXT]}…"
        shown = repr(f"{before}>>>{after}")
        raise UsageError(f"-k cannot be read {_place(at)}: {shown}: {what}")


def _place(at: int) -> str:
    return f"at character {at + 1}"


def _matching(token: _Token) -> Matcher:
    """Return a matcher for a wildcard if the name has a star, otherwise for a part of the id."""
    text = token.text.lower()
    if token.kind == "name" and "*" in text:
        # Only the star is special; fnmatch would also interpret `?` and `[`.
        wildcard = re.sub(r"([?\[])", r"[\1]", text)
        return lambda test_id: fnmatch.fnmatchcase(test_id.lower(), wildcard)
    return lambda test_id: text in test_id.lower()

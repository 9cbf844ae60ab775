"""The examples of README.md and docs/*.md: found, told apart, and turned into what is to be run.

A fenced block is an example unless Sphinx reads it as a directive. What it is says its first line,
or an HTML comment before it, which no reader of the page sees:

- a Python block whose first line is `# name.py` is a file;
- `<!-- run -->`: commands, one a line;
- `<!-- output -->`: what the commands before it print, or a part of it;
- `<!-- run: COMMAND -->`: what this command prints, or a part of it;
- `<!-- not run: REASON -->`.

In what is printed, `…` stands for any text, and alone on a line for any lines. Times are not
compared; native frames, which differ by machine, and the runner's words on slow tests are left out.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from suites.selftest.support import ROOT

_MARK = re.compile(r"<!--\s*(not run|run|output)\s*(?::\s*(.*?))?\s*-->", re.DOTALL)
_FILE = re.compile(r"# ([\w/]+\.py)\n")
_TIME = re.compile(r"\d+(\.\d+)? ?(s|ms)\b")
# Lines that are there on some machines only. CPython 3.13 underlines more of a traceback than 3.11.
_BY_MACHINE = re.compile(r"(?m)^( .* \(native\)|SLOW .*|\d+ of \d+ done; running: .*|[ ~^]+[~^])\n")
# Words with which a command of this package begins.
_OURS = re.compile(r"python (run_tests\.py|-m harness(\.bench)?)(?= |$)")


class Kind(enum.Enum):
    """What is done with a block."""

    FILE = "a file"
    RUN = "commands"
    OUTPUT = "what was printed"
    OUTPUT_OF = "what a command prints"
    NOT_RUN = "not run"
    UNKNOWN = "neither run nor marked"


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: the file that it is in.
        line: the line of its fence, from 1.
        kind: what is done with it.
        argument: the file's name, the command, or the reason.
        text: what is in it.
    """

    page: Path
    line: int
    kind: Kind
    argument: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The lines of a block of commands; comments are the shell's."""
        return [line for line in self.text.splitlines() if line.strip()]


def pages() -> list[Path]:
    """Everything that is read as manual."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks_of(page: Path, text: str | None = None) -> list[Block]:
    """The examples of a page, in order; its text is the file's unless given."""
    tokens = MarkdownIt().parse(page.read_text() if text is None else text)
    before: list[Token | None] = [None, *tokens]
    return [
        _block(page, token, previous)
        for previous, token in zip(before, tokens, strict=False)
        if token.type in ("fence", "code_block") and not token.info.startswith("{")
    ]


def _block(page: Path, token: Token, previous: Token | None) -> Block:
    assert token.map is not None
    line = token.map[0] + 1
    comment = previous.content if previous is not None and previous.type == "html_block" else ""
    mark = _MARK.fullmatch(comment.strip())
    if mark is not None:
        kind, argument = _kind_of_mark(mark[1], " ".join((mark[2] or "").split()))
        return Block(page, line, kind, argument, token.content)
    file = _FILE.match(token.content)
    if file is not None and token.info.strip() == "python":
        return Block(page, line, Kind.FILE, file[1], token.content)
    return Block(page, line, Kind.UNKNOWN, "", token.content)


def _kind_of_mark(word: str, argument: str) -> tuple[Kind, str]:
    if word == "not run":
        return (Kind.NOT_RUN if argument else Kind.UNKNOWN), argument
    if word == "output":
        return (Kind.UNKNOWN if argument else Kind.OUTPUT), ""
    return (Kind.OUTPUT_OF if argument else Kind.RUN), argument


def command_lines(page: Path) -> Iterator[str]:
    """Every call of this package's commands that a page shows, in blocks and in its text."""
    for token in MarkdownIt().enable("table").parse(page.read_text()):
        if token.type in ("fence", "code_block"):
            yield from filter(_OURS.match, token.content.splitlines())
        for child in token.children or ():
            text = " ".join(child.content.split())
            if child.type == "code_inline" and _OURS.match(text):
                yield text


def shows(block: str, printed: str) -> bool:
    """Whether the lines of a block are found, together and in order, in what was printed."""
    lines = [_line_pattern(line) for line in _TIME.sub("N s", block).rstrip().splitlines()]
    pattern = r"[ \t]*\n".join(lines)
    return re.search(pattern, _TIME.sub("N s", _BY_MACHINE.sub("", printed))) is not None


def _line_pattern(line: str) -> str:
    if line.strip() == "…":
        return r"(?:.*\n)*?.*"
    return ".*".join(map(re.escape, line.rstrip().split("…")))

"""What all reports need of a record: text that any format can carry, names, and times."""

from __future__ import annotations

import math
import re

from harness.model.timeline import CollectiveSpan, RankTrack
from harness.runner.results import RunResult, TestRecord

# Control characters, lone surrogates, and two non-characters. XML 1.0 cannot carry most of them,
# nor UTF-8 some; the rest nobody would see.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# These, and a backslash in front of what would then read like an escape.
_ESCAPED_IN_NAMES = re.compile(rf"\\(?=[\\xu]|{_FORBIDDEN.pattern})|{_FORBIDDEN.pattern}")
_ESCAPE = re.compile(r"\\(\\|x[0-9a-f]{2}|u[0-9a-f]{4})")


def visible(text: str) -> str:
    r"""The text, with characters that no report can carry as Python escapes: `\x1b`, `\udc80`."""
    if text.isascii() and text.isprintable():  # most are, and there are many
        return text
    return _FORBIDDEN.sub(_escaped, text)


def visible_name(text: str) -> str:
    r"""A name as any file can carry it, and no two names the same: see `original_name`.

    As `visible`, but a backslash that would then read like an escape is doubled.
    """
    return _ESCAPED_IN_NAMES.sub(_escaped, text)


def original_name(text: str) -> str:
    """The inverse of `visible_name`."""
    return _ESCAPE.sub(lambda found: "\\" if found[1] == "\\" else chr(int(found[1][1:], 16)), text)


def one_line(text: str) -> str:
    r"""A name as one line that does nothing to a terminal: with `\n` for a line feed, and so on."""
    if text.isascii() and text.isprintable():
        return text
    return visible(text).replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if match[0] == "\\":
        return "\\\\"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def shortened(text: str, limit: int) -> str:
    """At most so many characters; an ellipsis says that there were more."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def name_of(record: TestRecord) -> str:
    """The test's name within its class: `test_sync`, or `setUpClass` for a fixture."""
    prefix = f"{record.owner}."
    if record.owner and record.test_id.startswith(prefix):
        return record.key.removeprefix(prefix)
    return record.test_id.partition(" (")[0] + record.copy_suffix


def status_of(record: TestRecord) -> str:
    """A word for what became of it: a test that was passing when it was stopped has not passed."""
    return record.status.value if record.status else "unfinished"


def attempts_of(record: TestRecord) -> list[TestRecord]:
    """All attempts at the test, the one that counts last."""
    return [*record.earlier, record]


def end_of_rank(track: RankTrack) -> float | None:
    """When the rank ended, on the clock; None if nothing is known about its time."""
    if track.phases:
        return track.phases[-1].ended_s
    ends = [span.began_s if span.ended_s is None else span.ended_s for span in track.collectives]
    return max(ends, default=None)


def end_of_collective(span: CollectiveSpan, track: RankTrack) -> float:
    """Where a picture lets it end: one that is pending lasts as long as its rank."""
    end = span.ended_s
    if end is None:
        end = end_of_rank(track) if span.pending else span.began_s
    return max(span.began_s, span.began_s if end is None else end)


def ms_since(start_s: float, at_s: float | None) -> float | None:
    """Milliseconds between two points on the clock; None for what is not a time."""
    if at_s is None or not math.isfinite(at_s - start_s):
        return None
    return round((at_s - start_s) * 1000, 3)


def epoch_of(run: RunResult, at_s: float) -> float:
    """Seconds since the epoch at a point on the clock; the run's start for a test without one."""
    return run.started_at + (at_s - run.started_s if at_s else 0.0)

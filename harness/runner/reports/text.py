"""Helpers for all reports: text that every format can represent, names, and times."""

from __future__ import annotations

import math
import re

from harness.model.timeline import CollectiveSpan, RankTrack
from harness.runner.results import RunResult, TestRecord

# Control characters, lone surrogates, and two non-characters. XML 1.0 does not allow most of them,
# UTF-8 cannot encode surrogates, and the others are invisible.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# These, and a backslash before text that would then look like an escape.
_ESCAPED_IN_NAMES = re.compile(rf"\\(?=[\\xu]|{_FORBIDDEN.pattern})|{_FORBIDDEN.pattern}")
_ESCAPE = re.compile(r"\\(\\|x[0-9a-f]{2}|u[0-9a-f]{4})")


def visible(text: str) -> str:
    r"""Return the text with forbidden characters as Python escapes: `\x1b`, `\udc80`."""
    if text.isascii() and text.isprintable():  # the common case, much faster than the expression
        return text
    return _FORBIDDEN.sub(_escaped, text)


def visible_name(text: str) -> str:
    r"""Return a name that every format can represent, different for different names.

    Like `visible`, but doubles a backslash that would look like an escape. `original_name` is the
    inverse.
    """
    return _ESCAPED_IN_NAMES.sub(_escaped, text)


def original_name(text: str) -> str:
    """Return the name from `visible_name`."""
    return _ESCAPE.sub(lambda found: "\\" if found[1] == "\\" else chr(int(found[1][1:], 16)), text)


def one_line(text: str) -> str:
    r"""Return a name as one line without control characters: `\n` for a line feed, and so on."""
    if text.isascii() and text.isprintable():
        return text
    return visible(text).replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if match[0] == "\\":
        return "\\\\"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def shortened(text: str, limit: int) -> str:
    """Shorten a text to `limit` characters; an ellipsis replaces the rest."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def name_of(record: TestRecord) -> str:
    """Return the test's name within its class: `test_sync`, or `setUpClass` for a fixture."""
    prefix = f"{record.owner}."
    if record.owner and record.test_id.startswith(prefix):
        return record.key.removeprefix(prefix)
    return record.test_id.partition(" (")[0] + record.copy_suffix


def status_of(record: TestRecord) -> str:
    """Return the status as a word; "unfinished" for a test that did not end."""
    return record.status.value if record.status else "unfinished"


def attempts_of(record: TestRecord) -> list[TestRecord]:
    """Return all attempts at the test, in order; the last one counts."""
    return [*record.earlier, record]


def end_of_rank(track: RankTrack) -> float | None:
    """Return when the rank ended, on the run's clock; None if unknown."""
    if track.phases:
        return track.phases[-1].ended_s
    ends = [span.began_s if span.ended_s is None else span.ended_s for span in track.collectives]
    return max(ends, default=None)


def end_of_collective(span: CollectiveSpan, track: RankTrack) -> float:
    """Return the end of a collective's bar; a pending one lasts until its rank ends."""
    end = span.ended_s
    if end is None:
        end = end_of_rank(track) if span.pending else span.began_s
    return max(span.began_s, span.began_s if end is None else end)


def ms_since(start_s: float, at_s: float | None) -> float | None:
    """Return the milliseconds between two times; None if one of them is not a time."""
    if at_s is None or not math.isfinite(at_s - start_s):
        return None
    return round((at_s - start_s) * 1000, 3)


def epoch_of(run: RunResult, at_s: float) -> float:
    """Convert a time to seconds since the epoch; the run's start for a test without a time."""
    return run.started_at + (at_s - run.started_s if at_s else 0.0)

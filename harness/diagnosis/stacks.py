"""Parse the stacks that faulthandler writes, and format stacks for readers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence

from harness.diagnosis.sources import is_foreign, is_hypothesis, is_machinery, is_torch
from harness.model import own_thread, settings
from harness.model.evidence import ThreadStack
from harness.model.invocation import short_path
from harness.model.outcome import Place

_THREAD = re.compile(r"^(?:Current t|T)hread 0x[0-9a-f]+(?: \[(?P<name>.*)\])?.*most recent call")
_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+|\?\?\?) in (?P<function>.*)$')


def parse_faulthandler(text: str, current_first: bool = False) -> tuple[ThreadStack, ...]:
    """Return the threads in a dump of faulthandler, the main thread first.

    Args:
        text: a dump of all threads. faulthandler does not mark the main thread; it is the last one.
        current_first: whether the "Current thread" comes first instead. It is the one that handled
            the signal: in a crash, the thread that crashed.
    """
    stacks: list[tuple[str, list[Place]]] = []
    current = 0
    for line in text.splitlines():
        if thread := _THREAD.match(line):
            if line.startswith("Current"):
                current = len(stacks)
            stacks.append((thread["name"] or "", []))
        elif (frame := _FRAME.match(line)) and stacks:
            number = int(frame["line"]) if frame["line"].isdigit() else 0
            stacks[-1][1].append(Place(frame["file"], number, frame["function"]))
    # The result is reversed below, so the last stack becomes the first.
    if current_first and stacks:
        stacks.append(stacks.pop(current))
    found = [ThreadStack(name, tuple(frames)) for name, frames in stacks if not _is_own(frames)]
    return tuple(reversed(found))


def fatal_dump(lines: Sequence[str]) -> tuple[str, list[str]]:
    """Split stderr into faulthandler's dump of a crash and the other lines.

    The first line of the dump, which names the crash ("Fatal Python error: Aborted"), stays with
    the other lines, so that the log shows it.
    """
    headers = [i for i, line in enumerate(lines) if line.startswith("Fatal Python error: ")]
    if not headers:
        return "", list(lines)
    begin = end = headers[-1] + 1
    while end < len(lines) and (not lines[end] or lines[end].startswith(_DUMP_PREFIXES)):
        end += 1
    return "\n".join(lines[begin:end]), [*lines[:begin], *lines[end:]]


# What the lines of a dump begin with (CPython 3.11 to 3.14).
_DUMP_PREFIXES = (
    "Thread 0x",
    "Current thread 0x",
    "  File ",
    "  ...",
    "  <",
    "Extension modules: ",
)


def _is_own(frames: Iterable[Place]) -> bool:
    """Whether a stack belongs to one of the harness's own threads."""
    return any(frame.file == own_thread.FILE for frame in frames)


def shown_stack(frames: Sequence[Place], test: str = "") -> list[str]:
    """Return a stack as lines, innermost first: the user's frames, and one line for a library's.

    Args:
        frames: the frames, innermost first.
        test: name of the test method; its frame is marked.
    """
    if settings.FULL_TRACEBACKS.value():
        return [shown_place(frame) for frame in frames]
    own = [frame for frame in _frames_inside_test(frames) if not is_foreign(frame.file)]
    if not own:
        # No frame is the user's: a thread that torch started, or a tear-down of the harness.
        inner = [f for f in frames if not is_machinery(f.file) and not f.file.startswith("<")]
        return [shown_place(frame) for frame in inner[:4]]
    lines = _library_line(frames)
    for frame in own:
        mark = "  (the test)" if test and frame.function == test else ""
        lines.append(shown_place(frame) + mark)
    return lines


def _frames_inside_test(frames: Sequence[Place]) -> Iterator[Place]:
    """Yield the frames without those through which Hypothesis called the test.

    Hypothesis gives some of its wrappers the file and the line of the test (`impersonate`).
    """
    is_within = False
    for frame in frames:
        if is_within and is_hypothesis(frame.file):
            return
        is_within = is_within or not is_foreign(frame.file)
        yield frame


def _library_line(frames: Sequence[Place]) -> list[str]:
    """Return one line for the library frames inside the user's innermost frame, if there are any.

    It names the function that the user's code called, not the one that the library is in.
    """
    inside: list[Place] = []
    for frame in frames:
        if not is_foreign(frame.file):
            break
        inside.append(frame)
    if not inside:
        return []
    called = inside[-1]
    whose = "torch" if is_torch(called.file) else "Python"
    # torch.distributed decorates its functions with logging: "wrapper" says nothing to a reader.
    named = next((f for f in reversed(inside) if f.function != "wrapper"), called)
    return [f"{named.function} in {whose}"]


def shown_place(place: Place) -> str:
    """Return a place as text; the file relative to the user's folder if that is shorter."""
    file = short_path(place.file) if os.path.isabs(place.file) else place.file
    return f"{file}:{place.line} in {place.function}"

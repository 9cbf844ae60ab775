"""Parse the stacks that faulthandler writes, and format any stack for a reader."""

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
        text: what it wrote: all threads, the main one last, though it does not say that it is.
        current_first: have the thread first on which a signal was handled: in a crash, the culprit.
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
    if current_first and stacks:
        stacks.append(stacks.pop(current))
    found = [ThreadStack(name, tuple(frames)) for name, frames in stacks if not _is_own(frames)]
    return tuple(reversed(found))


def fatal_dump(lines: Sequence[str]) -> tuple[str, list[str]]:
    """Split stderr into faulthandler's dump of a crash and the other lines.

    Its first line, which names the crash, stays with the others.
    """
    begins = [i for i, line in enumerate(lines) if line.startswith("Fatal Python error: ")]
    if not begins:
        return "", list(lines)
    begin = end = begins[-1] + 1
    while end < len(lines) and (not lines[end] or lines[end].startswith(_OF_A_DUMP)):
        end += 1
    return "\n".join(lines[begin:end]), [*lines[:begin], *lines[end:]]


_OF_A_DUMP = ("Thread 0x", "Current thread 0x", "  File ", "  ...", "  <", "Extension modules: ")


def _is_own(frames: Iterable[Place]) -> bool:
    """Whether a stack is of one of the harness's own threads."""
    return any(frame.file == own_thread.FILE for frame in frames)


def shown_stack(frames: Sequence[Place], test: str = "") -> list[str]:
    """Return a stack as lines: innermost first, the user's frames, others folded.

    Args:
        frames: innermost first.
        test: name of the test method, whose frame is marked.
    """
    if settings.FULL_TRACEBACKS.value():
        return [shown_place(frame) for frame in frames]
    own = [frame for frame in _within_the_test(frames) if not is_foreign(frame.file)]
    if not own:
        # Outside the test's code altogether: in a hook of torch's, or taking down.
        inner = [f for f in frames if not is_machinery(f.file) and not f.file.startswith("<")]
        return [shown_place(frame) for frame in inner[:4]]
    lines = _innermost_foreign(frames)
    for frame in own:
        mark = "  (the test)" if test and frame.function == test else ""
        lines.append(shown_place(frame) + mark)
    return lines


def _within_the_test(frames: Sequence[Place]) -> Iterator[Place]:
    """The frames without those by which Hypothesis has come to call the test.

    It passes some of them off as the test's own.
    """
    is_within = False
    for frame in frames:
        if is_within and is_hypothesis(frame.file):
            return
        is_within = is_within or not is_foreign(frame.file)
        yield frame


def _innermost_foreign(frames: Sequence[Place]) -> list[str]:
    """Return one line for the library frames inside the user's innermost frame."""
    inside: list[Place] = []
    for frame in frames:
        if not is_foreign(frame.file):
            break
        inside.append(frame)
    if not inside:
        return []
    called = inside[-1]
    whose = "torch" if is_torch(called.file) else "Python"
    # Prefer the wrapped function: the name of a decorator's wrapper says nothing.
    named = next((f for f in reversed(inside) if f.function != "wrapper"), called)
    return [f"{named.function} in {whose}"]


def shown_place(place: Place) -> str:
    """A place as a reader finds it, relative to the current folder where that is shorter."""
    file = short_path(place.file) if os.path.isabs(place.file) else place.file
    return f"{file}:{place.line} in {place.function}"

"""Assign the spans of a trace to lanes. In a lane, spans may nest, but not overlap otherwise."""

from __future__ import annotations

from collections.abc import Sequence


def lanes_of(spans: Sequence[tuple[int, int]]) -> list[int]:
    """Return the lane of each span, from 0: the first lane in which it fits.

    Args:
        spans: begin and end of each span. If two are equal, the first one is the outer one.
    """
    found = [0] * len(spans)
    lanes: list[list[int]] = []  # for each lane, the ends of the spans around the current point
    # By begin, and the longer span first, so that an outer span is placed before those inside it.
    order = sorted(range(len(spans)), key=lambda i: (spans[i][0], -spans[i][1]))
    for index in order:
        found[index] = _enter(lanes, *spans[index])
    return found


def _enter(lanes: list[list[int]], began: int, ended: int) -> int:
    for number, around in enumerate(lanes):
        # Leave the spans of this lane that have ended by now; the rest are around the new one.
        while around and around[-1] <= began:
            around.pop()
        if not around or ended <= around[-1]:
            around.append(ended)
            return number
    lanes.append([ended])
    return len(lanes) - 1

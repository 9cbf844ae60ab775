"""The phases of a rank, as the rank itself, its parent and the reports name them."""

from __future__ import annotations

import enum


class Phase(enum.StrEnum):
    """A phase of a rank.

    A rank goes through START to EXIT in this order, in each of its tests. Its parent sees only
    messages and the end of the process. So for the parent, BODY lasts from `Ready` to `Report`, and
    a reused rank begins with it.

    START lasts until the process runs the harness's code; EXIT until it has ended, or waits for
    another test.
    """

    START = "start"
    SET_UP = "set-up"
    BODY = "body"
    TEAR_DOWN = "tear-down"
    EXIT = "exit"
    GONE = "gone"
    BETWEEN_TESTS = "between tests"
    BETWEEN_EXAMPLES = "between examples"


#: The phases of one test, in order.
PHASES = (Phase.START, Phase.SET_UP, Phase.BODY, Phase.TEAR_DOWN, Phase.EXIT)
#: The rank waits for its parent: for another test, or for another example of a property test.
WAITING = (Phase.BETWEEN_TESTS, Phase.BETWEEN_EXAMPLES)

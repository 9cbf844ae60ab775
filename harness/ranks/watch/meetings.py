"""Let ranks exchange texts outside their process groups: an all-gather through the parent.

`assertRanksAgree` uses it, and `init_process_group` of the TestCase. A collective would hang if a
rank had ended, or were not part of a group. The parent (for threads, the world) knows which ranks
have ended, so no rank waits for one that will never arrive.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.diagnosis.words import rank_list
from harness.ranks.messages import MeetingAnswer


@dataclass
class _Meeting:
    label: str
    values: dict[int, str] = field(default_factory=dict)


# States of one meeting, the nth of each rank:
#
#   absent      no rank has arrived
#   open        arrive(): some ranks wait for the others
#   complete    the last rank arrives: all ranks get all values
#   cancelled   a rank arrives at another meeting, or has left, or cancel(): the ranks that wait
#               and those that arrive later get an error


class Meetings:
    """The meetings of one test.

    Args:
        size: the number of ranks.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._open: dict[int, _Meeting] = {}
        self._counts = [0] * size
        self._left: set[int] = set()
        self._cancelled = ""

    def arrive(self, rank: int, label: str, value: str) -> dict[int, MeetingAnswer]:
        """Record that a rank has arrived at its next meeting.

        Args:
            rank: the rank.
            label: the function that the rank called, for messages.
            value: the rank's text.

        Returns:
            the answers to send now, by rank.
        """
        # Ranks send no number: the nth meeting of one rank is the nth of all others. If the labels
        # differ, the ranks have diverged.
        number = self._counts[rank]
        self._counts[rank] += 1
        meeting = self._open.setdefault(number, _Meeting(label))
        others = tuple(meeting.values)
        meeting.values[rank] = value
        if meeting.label != label:
            return self._cancel(
                number,
                f"{rank_list([rank])} called {label} while {rank_list(others)} waited in "
                f"{meeting.label}",
            )
        if self._cancelled:
            return self._cancel(number, self._cancelled)
        if self._left:
            return self._cancel(number, self._absence_error(meeting))
        if len(meeting.values) < self._size:
            return {}
        del self._open[number]
        values = tuple(meeting.values[r] for r in range(self._size))
        return dict.fromkeys(range(self._size), _answer(number, values))

    def leave(self, rank: int) -> dict[int, MeetingAnswer]:
        """Record that a rank has left; return the answers to send, by rank."""
        self._left.add(rank)
        answers: dict[int, MeetingAnswer] = {}
        for number, meeting in list(self._open.items()):
            answers.update(self._cancel(number, self._absence_error(meeting)))
        return answers

    def cancel(self, error: str) -> dict[int, MeetingAnswer]:
        """Cancel all meetings, present and future; return the answers to send, by rank."""
        self._cancelled = error
        answers: dict[int, MeetingAnswer] = {}
        for number in list(self._open):
            answers.update(self._cancel(number, error))
        return answers

    def _absence_error(self, meeting: _Meeting) -> str:
        missing = [rank for rank in sorted(self._left) if rank not in meeting.values]
        return f"{rank_list(missing)} ended the test without calling {meeting.label}"

    def _cancel(self, number: int, error: str) -> dict[int, MeetingAnswer]:
        meeting = self._open.pop(number)
        return {rank: MeetingAnswer(number, error=error) for rank in meeting.values}


def _answer(number: int, values: tuple[str, ...]) -> MeetingAnswer:
    """Return the answer; a value that all ranks share is sent once."""
    if len(set(values)) == 1:
        return MeetingAnswer(number, values[:1], len(values))
    return MeetingAnswer(number, values)

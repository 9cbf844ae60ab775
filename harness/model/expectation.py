"""The text that a test has produced in accept mode, to replace the text that it expects."""

from __future__ import annotations

import os
from dataclasses import dataclass

#: Set to update the texts that tests expect (expecttest's name).
ACCEPT_VARIABLE = "EXPECTTEST_ACCEPT"


def is_accepting() -> bool:
    """Whether tests update the texts that they expect."""
    return bool(os.environ.get(ACCEPT_VARIABLE))


@dataclass(frozen=True, slots=True)
class Expectation:
    """One text that a test expects, and the one that it has produced.

    Attributes:
        file: the file that contains the expected text.
        line: the line of the call whose argument it is; 0 if it is the content of the whole file.
        function: the name of the function with this line.
        expected: the expected text; None if there is no file yet.
        actual: the text that the test has produced.
    """

    file: str
    line: int
    function: str
    expected: str | None
    actual: str

    @property
    def place(self) -> tuple[str, int]:
        """Return file and line, which identify the expectation."""
        return self.file, self.line

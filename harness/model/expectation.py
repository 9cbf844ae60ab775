"""The text that a test in accept mode has produced where it expects one."""

from __future__ import annotations

import os
from dataclasses import dataclass

#: Set to update the texts that tests expect (expecttest's name).
ACCEPT_VARIABLE = "EXPECTTEST_ACCEPT"


def is_accepting() -> bool:
    """Whether what tests produce is to be accepted."""
    return bool(os.environ.get(ACCEPT_VARIABLE))


@dataclass(frozen=True, slots=True)
class Expectation:
    """One text that is expected.

    Attributes:
        file: where the text is.
        line: the line of the call that has the text as a literal; 0 if the text is the whole file.
        function: the name of the function with this line.
        expected: the text that is there now; None if there is no file yet.
        actual: the text that the test has produced.
    """

    file: str
    line: int
    function: str
    expected: str | None
    actual: str

    @property
    def place(self) -> tuple[str, int]:
        """What identifies this expectation."""
        return self.file, self.line

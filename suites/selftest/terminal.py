"""Commands on a terminal, for the self-tests: what they show there, and what is typed."""

from __future__ import annotations

import os
import pty
import re
import select
import time

from suites.selftest.support import COMMAND_LIMIT_S


class Terminal:
    """A command on a terminal of its own.

    Args:
        command: the program and its arguments.
        cwd: the folder that it runs in.
        env: its whole environment.
    """

    def __init__(self, *command, cwd, env):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execvpe(command[0], command, env)
        self.text = ""
        self.seen = 0
        self.has_ended = False

    def expect(self, pattern):
        """Read until the pattern comes; returns the match."""
        give_up = time.monotonic() + COMMAND_LIMIT_S
        while True:
            found = re.compile(pattern).search(self.text, self.seen)
            if found:
                self.seen = found.end()
                return found
            if not select.select([self.fd], [], [], max(0.0, give_up - time.monotonic()))[0]:
                raise AssertionError(f"{pattern!r} does not come:\n{self.text}")
            try:
                self.text += os.read(self.fd, 4096).decode()
            except OSError:
                raise AssertionError(f"ended without {pattern!r}:\n{self.text}") from None

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def say(self, line):
        os.write(self.fd, f"{line}\n".encode())

    def close(self):
        """Returns the exit code."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        self.has_ended = True
        return os.waitstatus_to_exitcode(status)

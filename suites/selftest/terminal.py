"""Commands on a terminal, for the self-tests: what they show there, and what is typed."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
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
        self.fd, its_end = pty.openpty()
        # pty.fork() warns in a process with threads (CPython 3.12), as a worker of the runner is.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            cwd=cwd,
            env=env,
            stdin=its_end,
            stdout=its_end,
            stderr=its_end,
        )
        os.close(its_end)
        self.pid = self.process.pid
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
        code = self.process.wait()
        os.close(self.fd)
        self.has_ended = True
        return code

    def end(self):
        """Leave nothing of the command behind that a failed assertion has left alone."""
        if not self.has_ended:
            self.process.kill()
            self.close()

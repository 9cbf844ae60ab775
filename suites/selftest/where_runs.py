"""Ask where the ranks of a sample are, while it runs in this process."""

from __future__ import annotations

import os
import queue
import threading
from unittest import mock

from harness.model.clock import Deadline, now
from harness.ranks.pool import pool
from harness.ranks.watch import where
from suites.samples import timed
from suites.selftest.support import COMMAND_LIMIT_S, InProcess, run_case


class Asking(InProcess):
    """Runs samples that are asked where they are meanwhile."""

    def setUp(self):
        super().setUp()
        self.enterContext(mock.patch.object(where, "_status_thread", None))
        self.addCleanup(where.disable)
        self.addCleanup(pool().close)
        self.told = queue.SimpleQueue()
        where.enable(self.told.put)
        self.go = os.path.join(self.out, "go")
        os.mkfifo(self.go)
        # For reading too, so that it does not matter whether somebody reads at the other end.
        self.go_fd = os.open(self.go, os.O_RDWR)
        self.addCleanup(os.close, self.go_fd)

    def let_go(self):
        """Have those go on that wait until told."""
        timed.GO.set()
        os.write(self.go_fd, b"go\n")

    def ask_until(self, *wanted, ask=where.ask):
        """Ask until an answer has all these words; returns the last one, and how long it took."""
        deadline, text, took_s = Deadline.after(COMMAND_LIMIT_S), "", 0.0
        while not deadline.expired:
            began_s = now()
            ask()
            text = self.told.get(timeout=COMMAND_LIMIT_S)
            took_s = now() - began_s
            if all(word in text for word in wanted):
                break
        return text, took_s

    def asked(self, cls, method, *wanted, size=2, status="passed", **env):
        """Run a sample, and ask until the answer has the words; it is let go then."""
        answers = []
        timed.GO.clear()

        def asker():
            try:
                answers.append(self.ask_until(*wanted))
            finally:
                self.let_go()

        thread = threading.Thread(target=asker)
        with (
            mock.patch.dict(os.environ, {"SAMPLE_GO": self.go, **env}),
            mock.patch.object(cls, "world_size", size, create=True),
        ):
            thread.start()
            result = run_case(cls, method)
            thread.join()
        self.assertEqual(result.status, status, result.text)
        ((text, took_s),) = answers
        for word in wanted:
            self.assertIn(word, text)
        return text, took_s

    def lines(self, text):
        return [line.split(maxsplit=2)[2] for line in text.split("\n")]

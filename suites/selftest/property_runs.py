"""Run a property test among the samples, and read what its ranks recorded or what it reports."""

from __future__ import annotations

import json
import os
from unittest import mock

from harness.ranks.pool import pool
from suites.selftest.support import InProcess, run_case

# On a machine that is busy, a minute may not do to make an example as small as can be.
DEV = {"CI": "", "HARNESS_DEADLOCK_AFTER": "0.5", "HARNESS_SHRINK_TIMEOUT": "900"}


class Properties(InProcess):
    def setUp(self):
        super().setUp()
        self.addCleanup(pool().close)
        self.enterContext(mock.patch.dict(os.environ, DEV))

    def recorded(self, cls, method, **env):
        """Run a sample that must pass; returns what each rank has recorded."""
        texts = self.passes(cls, method, **env)
        return [[json.loads(line) for line in text.splitlines()] for text in texts]

    def fails(self, cls, method, status, **env):
        """Run a sample that must not pass; returns the text of the report."""
        with mock.patch.dict(os.environ, {"SAMPLE_OUT": str(self.out), **env}):
            result = run_case(cls, method)
        self.assertEqual(result.status, status, result.text)
        self.assertEqual(len(result.titles), 0 if status == "skipped" else 1, result.titles)
        return result.text

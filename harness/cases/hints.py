"""Hints for a failed test: common mistakes that the messages of torch and Python do not explain."""

from __future__ import annotations

import unittest

from harness.cases import missing_names
from harness.model.outcome import Failed, Raised
from harness.model.verdict import Verdict

# The beginnings of torch's messages (torch 2.6 to 2.15).
_NO_GROUP = "Default process group has not been initialized"
_NO_RENDEZVOUS = "Error initializing torch.distributed using env:// rendezvous"


def hints(case: unittest.TestCase, verdict: Verdict) -> list[str]:
    """Return sentences that say what to do about the failures of a test's ranks."""
    return [*missing_names.hints(case, verdict), *_group_hints(case, verdict)]


def _group_hints(case: unittest.TestCase, verdict: Verdict) -> list[str]:
    """Return a hint if a rank needs a process group that the test has not initialized."""
    # Tests whose process group is up before the body lack this method.
    if not hasattr(case, "init_process_group"):
        return []
    messages = [
        problem.message
        for report in verdict.reports
        if isinstance(report.outcome, Failed | Raised)
        for problem in report.outcome.problems
    ]
    if any(text.startswith(_NO_GROUP) for text in messages):
        return ["call self.init_process_group() first: a rank starts without a process group"]
    if any(text.startswith(_NO_RENDEZVOUS) for text in messages):
        return [
            "call self.init_process_group() instead of torch's function: it uses the test's own "
            "store, and needs no MASTER_ADDR"
        ]
    return []

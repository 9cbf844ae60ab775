"""Hints for a failed test: common mistakes that the messages of torch and Python do not explain."""

from __future__ import annotations

import unittest

from harness.cases import missing_names
from harness.model.outcome import Failed, Raised
from harness.model.verdict import Verdict

# The beginnings of torch's messages (torch 2.6 to 2.15).
_NO_GROUP = "Default process group has not been initialized"
_NO_RENDEZVOUS = "Error initializing torch.distributed using env:// rendezvous"
_INIT = "init_process_group"

# Names that the harness reads from a test class. Nothing reads a misspelled one.
_NAMES = (
    "audit_level",
    "isolation",
    "nodes",
    "perRankSetUp",
    "perRankTearDown",
    "perThreadSetUp",
    "perThreadTearDown",
    "timeout_s",
    "world_size",
)


def hints(case: unittest.TestCase, verdict: Verdict) -> list[str]:
    """Return sentences that say what to do about the failures of a test's ranks."""
    return [
        *missing_names.hints(case, verdict),
        *_group_hints(case, verdict),
        *_misspelled_names(type(case)),
    ]


def _group_hints(case: unittest.TestCase, verdict: Verdict) -> list[str]:
    """Return a hint if a rank needs a process group that the test has not initialized."""
    problems = [
        problem
        for report in verdict.reports
        if isinstance(report.outcome, Failed | Raised)
        for problem in report.outcome.problems
    ]
    # Thread tests lack this method: their process group is up before the body.
    if not hasattr(case, _INIT):
        if any(p.missing is not None and p.missing.name == _INIT for p in problems):
            return [f"leave out {_INIT}(): the process group is up when the test starts"]
        return []
    messages = [problem.message for problem in problems]
    if any(text.startswith(_NO_GROUP) for text in messages):
        return ["call self.init_process_group() first: a rank starts without a process group"]
    if any(text.startswith(_NO_RENDEZVOUS) for text in messages):
        return [
            "call self.init_process_group() instead of torch's function: it uses the test's own "
            "store, and needs no MASTER_ADDR"
        ]
    return []


def _misspelled_names(cls: type) -> list[str]:
    """Return a hint for each name that differs from one of the harness's in case or underscores.

    Such a name may well be the user's own, so it is only mentioned if the test fails.
    """
    by_plain_name = {_plain(name): name for name in _NAMES}
    found = [
        (base.__qualname__, name, by_plain_name[_plain(name)])
        for base in cls.__mro__
        if not base.__module__.startswith(("harness.", "torch.", "unittest."))
        for name in vars(base)
        if name not in _NAMES and _plain(name) in by_plain_name
    ]
    return [f"{owner}.{name} has no effect; did you mean {meant}?" for owner, name, meant in found]


def _plain(name: str) -> str:
    return name.replace("_", "").lower()

"""The one-collective test on this harness, with a process group that is up already."""

from __future__ import annotations

from harness.bench.one_collective import OnGloo
from harness.cases.classes import MultiProcContinuousTest


class OneCollective(OnGloo, MultiProcContinuousTest):
    """Runs one all-reduce on the class's process group."""

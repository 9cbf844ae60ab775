"""The one-collective test in a world that has its process group up: ours."""

from __future__ import annotations

from harness.bench.isolation_side import OnGloo
from harness.cases.classes import MultiProcContinuousTest


class OneCollective(OnGloo, MultiProcContinuousTest):
    """One all-reduce on the process group that the class has."""

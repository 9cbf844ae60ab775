"""Hypothesis strategies for distributed tests; `harness.strategies` lists the public ones."""

from harness.cases.strategies.require_hypothesis import require_hypothesis

require_hypothesis()

from harness.cases.strategies import printing  # noqa: E402

printing.register()

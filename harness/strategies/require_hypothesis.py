"""Check that hypothesis is installed, and say how to install it if not."""

from __future__ import annotations

from harness.model.errors import HypothesisMissingError


def require_hypothesis() -> None:
    """Raise HypothesisMissingError unless hypothesis can be imported."""
    try:
        import hypothesis  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        raise HypothesisMissingError(
            "harness.strategies needs hypothesis, which is not installed: "
            "run `pip install 'hypothesis>=6.140'`"
        ) from None

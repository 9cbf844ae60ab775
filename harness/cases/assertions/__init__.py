"""Assertions that need more than a comparison: tensors with tolerances, and expected texts."""

"""Run test files that were written for PyTorch's own harness with this one, unchanged."""

"""Puts the harness under test files that were written for PyTorch's own."""

"""Benchmarks, with PyTorch's own harness on the other side: `python -m harness.bench --help`."""

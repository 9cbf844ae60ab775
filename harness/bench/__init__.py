"""Benchmarks against PyTorch's own harness: `python -m harness.bench --help`.

Each benchmark is a module with NAME, HELP, `add_arguments()` and `measure()`. Modules named `side…`
or `…_side` are the processes that run the tests of one harness. They import only that harness, so
that its imports and memory do not count for the other one.
"""

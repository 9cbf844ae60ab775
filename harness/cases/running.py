"""`run_tests()`: run the tests of the script that calls it, with the harness's runner."""

from __future__ import annotations

from collections.abc import Sequence


def run_tests(argv: Sequence[str] | None = None) -> None:
    """Run the tests of `__main__` and exit with the runner's code.

    Args:
        argv: program name and options, as `sys.argv`; by default `sys.argv` itself.
    """
    from harness.runner.main import run_main_module

    run_main_module(argv)

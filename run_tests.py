#!/usr/bin/env python3
"""Run the suites: `python run_tests.py --help`."""

from harness.runner.main import main

if __name__ == "__main__":
    main()

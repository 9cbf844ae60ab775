"""What past runs have shown: durations, outcomes, flaky tests.

`file` is the SQLite database, `tables` its layout, `history` what a run asks of it, `command` the
command `history`, `trends` the statistics.
"""

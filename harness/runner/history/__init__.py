"""The history of past runs: durations, outcomes, flaky tests.

`file` opens the SQLite database, `tables` has its schema and queries, `history` is what a run
uses, `command` the command `history`, and `trends` the statistics.
"""

"""Reports of a run: JUnit XML for CI, an HTML page, a trace for Perfetto, and JSON records.

`writing` writes the requested reports, `paths` checks their paths before the run and replaces files
atomically, `text` has what all formats need. `records` and `junit_input` read reports back, for the
command `merge-reports`.
"""

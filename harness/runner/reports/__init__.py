"""Reports of a run: JUnit XML for CI, a page for people, a trace for Perfetto."""

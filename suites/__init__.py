"""The suites: rank tests and single-process tests of torch's distributed package."""

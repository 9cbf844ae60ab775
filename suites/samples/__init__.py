"""Suites to be run by the self-tests, bad ones among them. Their names keep them from discovery."""

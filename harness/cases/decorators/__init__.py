"""Decorators for test methods and classes: skips, variants, time limits, fault injection.

Each module is one topic. A decorator overrides a class attribute, which overrides the command line,
which overrides the environment; `overrides` implements this rule.
"""

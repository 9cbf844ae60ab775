"""What a test method or a class is marked with: skips, variants, limits, faults on purpose.

Each module is one topic, named after it. A decorator beats a class attribute, which beats the
command line, which beats the environment: `overrides` has the rule.
"""

"""What a test method or class is marked with: skips, variants, limits, faults."""

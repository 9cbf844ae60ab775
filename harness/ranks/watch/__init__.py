"""Watch ranks until each has an outcome, and ask where they are. Start at `supervisor`."""

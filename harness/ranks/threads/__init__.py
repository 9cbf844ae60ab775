"""Ranks that are threads of this process. Start at `world`."""

"""The runner: discovery, execution, reports, command line. Knows unittest only, never torch."""

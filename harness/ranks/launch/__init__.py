"""Start ranks and workers: fork server, preloading, environment. Start at `launcher`."""

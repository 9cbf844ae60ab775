"""Run tests in several processes at once: the pool of workers, its schedule, one worker."""

"""Run tests in several processes at once.

`schedule` decides what runs next and where: pure bookkeeping, no process and no clock. `crew` is
the loop that starts workers, hands out tests and replaces workers that die. `worker` is one worker
as the runner sees it; `worker_main` is what runs in it; `messages` is what the two say to each
other. Read `schedule` first.
"""

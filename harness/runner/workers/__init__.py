"""Run tests in several worker processes at once.

    schedule            decides what runs next and where: pure bookkeeping, no process and no clock
    worker_pool         the loop: assigns tests, handles messages, replaces workers that end
    worker_starter      starts, replaces and ends worker processes
    worker              one worker process as the runner sees it
    worker_death        the record of a test whose worker died
    messages            the messages between the runner and a worker
    worker_spec         the request that starts a worker
    worker_main         the entry point of a worker process
    performer           runs one test in a worker, with the fixtures of its class and module
    worker_output       captures what tests print

The last three run in workers (`performer` also in the runner with -j 0); the others run in the
runner. Read `schedule` first, then `worker_pool`.
"""

"""Start ranks, talk to them, watch them, and end them.

    launch/     the fork server, what it preloads, the environment of a new process
    child/      what runs in a rank that is a process
    watch/      the supervisor of a test's ranks, the deadlock watch, "where is every rank"
    threads/    ranks that are threads of this process
    torchrun/   ranks on the processes that torchrun or srun has started

Beside the folders is what they share: `world` (the ranks of one test), `pool` (worlds that stay for
several tests), `messages` and `channel` (what a rank and its parent say to each other), and the
files: `folders`, `logs`, `stores`, `leftovers`.

No verdict is made here, and no TestCase is known here. Read `world` first, then `watch/supervisor`.
"""

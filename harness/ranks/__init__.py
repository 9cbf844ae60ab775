"""Start ranks, talk to them, watch them, and end them.

    launch/     the fork server, what it preloads, the environment of a new process
    child/      what runs in a rank that is a process
    watch/      the supervisor of a test's ranks, the deadlock watch, "where is every rank"
    threads/    ranks that are threads of this process
    torchrun/   ranks on the processes that torchrun or srun has started

The modules beside these folders are shared: `world` (the ranks of one test), `pool` (worlds that
several tests reuse), `messages` and `channel` (how a rank and its parent communicate), and the
files: `folders`, `logs`, `stores`, `leftovers`.

One test, from the parent's side:

    pool.lease() ──> World ──start──> OwnRank (a handle for each process) ──channel──> child/main
                       │                                                                  │
                       └── Supervisor.run(): messages, exits, deadlines <──── messages ───┘
                                │
                                └──> RankReport for each rank; `cases` makes a verdict of them

This package knows no verdicts and no TestCases. Read `world` first, then `watch/supervisor`.
"""

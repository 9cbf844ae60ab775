"""Ranks on the processes that torchrun or srun has started.

Each of these processes keeps one rank of every test. Rank 0's process runs the tests and judges
them; the others start and end ranks as it says, and pass on what those say.

    rendezvous      how a process finds rank 0, and joins
    gathering       how rank 0's process waits for all others
    cluster         rank 0's view: all processes, and worlds of ranks on them for tests
    peer, links     one other process, and the connection to it
    remote_rank     a rank that another process has started
    agent           what the other processes run

Nothing else in `ranks` knows of this folder. Read `cluster` first, then `agent`.
"""

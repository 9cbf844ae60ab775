"""Ranks on the processes that torchrun or srun has started.

Each of these processes runs one rank of every test, as a child process. Rank 0's process runs the
tests and judges them. The others start and end ranks on its request, and forward their messages.

    rendezvous      how a process finds rank 0's process and joins it
    gathering       how rank 0's process waits for all others
    cluster         rank 0's view: all processes, and worlds of ranks on them for tests
    peer, links     one other process, and the connection to it
    remote_rank     a rank that another process has started
    agent           what the other processes run

Nothing else in `ranks` imports this folder. Read `cluster` first, then `agent`.
"""

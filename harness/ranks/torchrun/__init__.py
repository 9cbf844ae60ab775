"""Ranks on the processes that torchrun or srun has started.

Each of these processes runs one rank of every test, as a child process. Rank 0's process runs the
tests and judges them. The others, the agents, start and end ranks on its request:

    host alpha                                        host beta

    process of rank 0 <------------ TCP ------------> process of rank 2 (agent)
      |    ^                                            | pipes
      |    +----- TCP ----- process of rank 1 (agent)   v
      | pipes                 | pipes                 rank 2 of the test
      v                       v
    rank 0 of the test      rank 1 of the test

Agents connect to rank 0's process only, never to each other. An agent forwards all that its rank
and rank 0's process send each other. The ranks of a test also connect to each other, through the
process groups that the test initializes; these connections are torch's.

    rendezvous      how a process finds rank 0's process and joins it
    admission, handshake, world_secret, socket_user
                    how both prove that they belong to the same world of the same user
    gathering       how rank 0's process waits for all others
    messages        every message between these processes
    links           a connection between two of them
    cluster, peer, world, remote_rank
                    rank 0's view: all processes, one of them, and the ranks of a test on them
    agent           what the other processes run
    process_changes how agents follow changes of rank 0's environment

Nothing else in `ranks` imports this folder. Read `messages` first, then `cluster` and `agent`.
"""

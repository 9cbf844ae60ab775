"""Ranks that are threads of this process.

    world           starts, watches, ends and reports all ranks of one test
    rank            one thread
    groups          torch's process groups for threads; checks each call against the peers' calls
    collectives     one collective: all members pass their tensors, one of them does the work
    ledger          what each rank has called, and where ranks diverge
    generators      gives each rank its own random generators (`torch_draws`: those of torch)
    tracks          the ranks over time, for timelines

A collective goes through these layers:

    dist.all_reduce()              torch's function, in each rank's thread
      CheckedGroup.allreduce()     `groups`: record the call; raise if it differs from a peer's
        ProcessLocalGroup          torch's group for threads
          ThreadCollective.join()  `collectives`: wait for the members; group rank 0 does the work

Read `world` first.
"""

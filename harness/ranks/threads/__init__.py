"""Ranks that are threads of this process.

    world           starts, watches, ends and reports all ranks of one test
    rank            one thread
    groups          torch's process groups of threads; compares each call with those of the peers
    ledger          what each rank has called, and where ranks diverge
    generators      random generators of each rank's own

Read `world` first.
"""

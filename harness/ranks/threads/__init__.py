"""Ranks that are threads of this process.

    world           all ranks of one test: started, watched, ended, reported
    rank            one thread
    groups          torch's process groups of threads, with each call compared with the peers'
    ledger          what each rank has called, and where ranks diverge
    generators      random generators of each rank's own

Read `world` first.
"""

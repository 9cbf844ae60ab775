"""Start processes: ranks, and the workers of the runner.

A process is forked from a fork server, which has imported what the process will need and has proved
that a fork is safe (one thread, no CUDA context). Where that cannot be proved, it is spawned.

    launcher        chooses: fork or spawn
    fork_server     Python's own, with our modules imported
    preload_plan    what it imports; `preload` runs in it
    process         what a new process applies to itself: environment, folder, sys.path, output

What a rank does once it runs is in `ranks/child`. Read `launcher` first.
"""

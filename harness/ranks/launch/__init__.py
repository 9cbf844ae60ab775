"""Start processes: ranks, and the workers of the runner.

A process is forked from a fork server, which has imported what the process will need and has proved
that a fork is safe (one thread, no CUDA context). Where that cannot be proved, it is spawned.

    runner ------ ForkServer -----> fork server     PreloadPlan ->, imports, <- PreloadReport
       |                              |    |
       |                         fork |    | fork
       |                              v    |
       |--- tests, records ------> worker  |        adopts the server that it is a fork of
                                      |    |
                 requests, by socket  |    v
                                      +--> ranks    child.main; messages go to the worker

With `-j 0`, or under pytest, there are no workers, and the first process asks for the ranks. For
the kernel, all forks are children of the server. Yet each ends with the process that has asked for
it, see `process.attach`.

    launcher        chooses: fork or spawn
    fork_server     starts Python's own fork server, with our modules imported
    forked_process  a process that is forked from it
    adopted_server  the server of a worker's parent, used by the worker
    preload_plan    what a server imports, and its report; `preload` runs in the server
    import_effects  what the imports have done to environment, folder and path
    start_method    spawns; keeps the user's start method of `multiprocessing` undecided
    environment     the environment of a test's ranks, and their number of threads
    process         what a new process applies to itself: surroundings, output, scheduling
    open_files, quit_key   what a fork must not share with its server: file positions, Ctrl-\\

What a rank does once it runs is in `ranks/child`. Read `launcher` first.
"""

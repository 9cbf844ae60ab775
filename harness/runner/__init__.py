"""The runner: find tests, run them in parallel, report. It knows unittest only, and never torch.

    main            the command line's way into a run; `command_line` has the options
    execution       one run from the options to the exit code
    selection/      which tests: files, discovery, `-k`, PyTorch's lists, shards
    workers/        several processes at once: the schedule, the workers, one worker
    in_process      -j 0: tests in the runner's own process
    torchrun        a run on the processes that torchrun has started
    recording       from what unittest reports to records (`results`), one for each test
    console         what a run prints; `live_console` on a terminal
    reports/        JUnit XML, HTML, JSON records, traces
    history/        what past runs have shown

Read `execution` first.
"""

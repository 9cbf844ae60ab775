"""The runner: find tests, run them in parallel, report. It only uses unittest, and never torch.

    main            the entry point of the command line; `command_line` has the options
    execution       one run from the options to the exit code
    selection/      which tests: files, discovery, `-k`, PyTorch's lists, shards
    workers/        several processes at once: the schedule, the workers, one worker
    in_process      -j 0: tests in the runner's own process
    torchrun        a run on the processes that torchrun has started
    recording       turns unittest's reports into records (`results`), one for each test
    ledger          collects the records of a run: attempts, order, when to stop
    console         prints a run; `live_console` does so on a terminal
    reports/        JUnit XML, HTML, JSON records, traces
    history/        results of past runs

Read `execution` first.
"""

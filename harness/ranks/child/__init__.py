"""What runs in a rank that is a process, and nowhere else.

    main            the entry: applies the launch spec, runs the test, exits
    rank_pipe       tells the parent what happens
    listener        a thread that answers the parent while the test runs
    between_tests   for ranks that stay: is everything as it was before the test?
                    (`state`, `python_state`, `process_state`, `torch_state` say what is compared)
    kept_group      for ranks that stay: the process group that the next test finds
    examples        property tests: runs the body once for each example

The parent imports none of this but `main`. Read `main` first.
"""

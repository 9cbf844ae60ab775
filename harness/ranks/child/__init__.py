"""What runs in a rank that is a process, and nowhere else.

    main            the entry: applies the launch spec, runs the test, exits
    rank_pipe       sends the rank's messages to the parent
    listener        a thread that answers the parent while the test runs
    between_tests   in a reused rank: checks that a test has left no state behind
                    (`state`, `python_state`, `process_state`, `torch_state` collect the state)
    kept_group      in a reused rank: the process group that the next test reuses
    examples        property tests: runs the body once for each example

The parent imports none of this but `main`. Read `main` first.
"""

"""What runs in a rank that is a process, and nowhere else.

    main            the entry, with the states of a rank's life
    rank            the object that holds all that this process is as a rank
    rank_pipe       sends the rank's messages to the parent
    listener        a thread that answers the parent while the test runs
    between_tests   in a reused rank: checks that a test has left no state behind
                    (`state`, `python_state`, `process_state`, `torch_state` collect the state)
    kept_group      the process groups; in a reused rank, the one that the next test reuses
                    (`gloo` closes groups without waiting for them)
    examples        property tests: runs the body once for each example

The parent imports `main` and nothing else. Test classes run in a rank too, but they use a rank only
as `harness.ranks.this_rank` describes it. Read `main` first, then `rank`.
"""

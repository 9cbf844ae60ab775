"""Property tests over ranks.

Hypothesis's engine runs in the parent and draws the examples. The parent sends each example to all
ranks, which run the body with it, and raises their combined verdict to the engine. So the engine
shrinks a failure of any rank. Read `property_tests` first; `ranks/child/examples` is the rank's
half.

    property_tests          replaces the test's body for the engine, and handles each example
    example_worlds          runs an example in ranks that are processes or threads
    example_budget          time limits
    example_failures        what the engine sees of a failure, and the final report
    profiles                Hypothesis profiles
    under_hypothesis        the entry points for the rest of the harness, without an import of
                            Hypothesis
"""

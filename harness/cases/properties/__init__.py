"""Property tests over ranks.

Hypothesis's engine runs in the parent and draws the examples. Each example is sent to all ranks,
which run the body with it; the verdict of all ranks is what the engine hears, so that it shrinks a
failure of any rank. Read `property_tests` first; `ranks/child/examples` is the rank's half.
"""
